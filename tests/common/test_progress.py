"""Bars of progress in processes that were forked: none waits for another that was killed, or for a thread."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")


def run(code):
    """Run code in a process of its own, which ends at once or fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_process_goes_on_where_another_was_killed_with_the_lock_of_bars():
    assert run("""
        import os, signal, time
        from captum_lkn._common.progress import Bar

        Bar(disable=True).close()  # the lock is there before the fork
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            Bar.get_lock().acquire()
            os.write(write, b"1")
            time.sleep(60)
        os.read(read, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        signal.alarm(30)  # ends a process that waits
        with Bar(total=2, disable=True) as bar:
            bar.update()
        print("done")
        """) == ["done"]


def test_a_forked_process_does_not_wait_for_a_thread_that_it_lacks():
    assert run("""
        import os, signal, threading
        from captum_lkn._common.progress import Bar

        held, end = threading.Event(), threading.Event()

        def hold():
            with Bar.get_lock():
                held.set()
                end.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            Bar(total=2, disable=True).close()
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        end.set()
        """) == ["7"]


def test_the_users_bars_keep_their_lock():
    assert run("""
        from tqdm.auto import tqdm
        lock = tqdm.get_lock()
        from captum_lkn._common.progress import Bar
        print(tqdm.get_lock() is lock, Bar.get_lock() is lock)
        """) == ["True", "False"]
