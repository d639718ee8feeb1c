"""Wrong calls of every command: the arguments, the option or argument that is at fault, and what was given for it.

``{name}`` stands for a file or a folder that the test makes. Everything else in a call is right.
"""

TEXT = ["text", "{model}", "not good film"]
IMAGE = ["image", "{vision}", "{picture}"]
PROBE = ["probe", "{model}", "{films}", "--layers", "0", "--out", "{new}.safetensors"]
STUDY = ["study", "{model}", "{films}", "--out", "{new}"]
SHOW = ["show", "{result}"]
DEMO = ["demo"]

_COUNTS = ("-1", "0", "2.5", "two", "nan", "", "1e3", "True", "99999999999999999999999x")


def _without(call, at, value, *more):
    return [*call[:at], value, *call[at + 1 :], *more]


def wrong_calls():
    """Return rows: the arguments; the option or argument at fault; what the message must quote besides."""
    rows = []

    def add(call, option, *values, more=()):
        rows.extend(([*call, option, value, *more], option, value) for value in values)

    def at(call, place, name, *values):
        rows.extend((_without(call, place, value), name, value) for value in values)

    # whole numbers
    for call in (TEXT, IMAGE, STUDY, DEMO):
        add(call, "--top", "0", "-3", "2.5", "many", "")
    add(TEXT, "--most", *_COUNTS, "21", str(2**70))
    add(IMAGE, "--most", "0", "21", "x")
    add(STUDY, "--most", "0", "21", "x")
    add(IMAGE, "--slic", "0", "-1", "1.5", "x", "nan", str(2**70))
    add(STUDY, "--n-samples", "0", "-1", "1.5", "x", str(2**70), "1e9")
    add(STUDY, "--limit", "0", "-1", "x")
    add(PROBE, "--limit", "0", "-1", "x")
    add(PROBE, "--batch-size", "0", "-1", "x", "1.5")
    add(PROBE, "--max-length", "0", "-1", "x", "1.5")
    add(PROBE, "--seed", "-1", "x", "1.5", str(2**70))
    # numbers
    for call in (TEXT, IMAGE, STUDY):
        add(call, "--kappa", "-1", "x", "nan", "inf", "1e400", "")
    # choices
    add(TEXT, "--units", "lines", "", "Words")
    add(STUDY, "--units", "lines", "", "word")
    add(IMAGE, "--baseline", "grey", "", "0", "nan")
    add(IMAGE, "--grid", "seven", "0", "-1", "3x", "x3", "3x0", "2.5", "9x9x9", "", "99999999999999999999", "33x2")
    # classes
    for call in (TEXT, IMAGE, STUDY):
        add(call, "--target", "NEUTRAL", "7", "-1", "1.0", "", "nan", str(2**70), "\ud800")
    # words
    add(TEXT, "--words", "excellent", ",", "", "\ud800")
    rows.append(([*TEXT, "--words", "not,excellent"], "--words", "excellent"))
    # layers and probes
    add(TEXT, "--layers", "7", "encoder", "5-3", "0-99", "-1", "", ",", more=["--probes", "{probes}"])
    add(STUDY, "--layers", "7", "encoder", "5-3", "0-99", "", more=["--probes", "{probes}"])
    rows.extend(
        (["probe", "{model}", "{films}", "--layers", given, "--out", "{new}.safetensors"], "--layers", given)
        for given in ("7", "encoder", "5-3", "0-99", "", ",", str(2**70), "0-" + str(2**70))
    )
    for call in (TEXT, STUDY):
        add(call, "--probes", "{missing}", "{folder}", "{films}", "{result}", "{empty}", "", "{other_probes}")
        rows.append(([*call, "--layers", "0"], "--layers", "--probes"))
    # files to write
    for call in (TEXT, IMAGE):
        add(call, "--out", "found.pickle", "{missing}/found.safetensors", "{folder}.safetensors", "", ".safetensors")
        add(call, "--out", "{films}/found.safetensors", "a" * 300 + ".safetensors", "{locked}/found.safetensors")
    rows.extend(
        (["probe", "{model}", "{films}", "--layers", "0", "--out", out], "--out", out)
        for out in ("x.pickle", "{missing}/x.safetensors", "{folder}.safetensors", "", "{locked}/x.safetensors")
    )
    rows.extend(
        (["study", "{model}", "{films}", "--out", out], "--out", out)
        for out in ("{films}", "{films}/study", "", "{locked}/study", "{full}", "a" * 300)
    )
    rows.append((["study", "{model}", "{films}", "--out", "{other_study}"], "folder", "{other_study}"))
    for call in (TEXT, IMAGE, STUDY, SHOW, DEMO):
        add(call, "--report", "page.pdf", "{missing}/page.html", "{page_folder}.html", "", "{locked}/page.html")
    add(IMAGE, "--draw", "found.txt", "{missing}/found.png", "{picture_folder}.png", "", "{locked}/found.png")
    # files to read
    at(SHOW, 1, "FILE", "{missing}", "{folder}", "{films}", "{empty}", "", "{cut}", "{stranger}")
    at(IMAGE, 2, "FILE", "{missing}", "{folder}", "{films}", "{empty}", "", "{half_picture}")
    for call in (PROBE, STUDY):
        at(call, 2, "DATA", "{missing}.csv", "{missing}.jsonl", "{folder}.csv", "{picture}", "", "{empty}.csv")
        at(call, 2, "DATA", "{locked}.csv")
        for file, quoted in (("{no_text}.csv", "no_text.csv"), ("{broken}.jsonl", "line 2"), ("{latin}.csv", "line 1")):
            rows.append((_without(call, 2, file), "DATA", quoted))
        add(call, "--text-column", "phrase", "")
        add(call, "--label-column", "stars", "")
    # models
    for call in (TEXT, PROBE, STUDY):
        at(call, 1, "MODEL", "{missing}", "{folder}", "{films}", "", "{vision}", "./nowhere")
    at(IMAGE, 1, "MODEL", "{missing}", "{folder}", "{films}", "", "{model}")
    # texts
    at(TEXT, 2, "SENTENCE", "", "   ", "\n", "\ud800", "not \ud800 good")
    # what does not go together
    rows.append(([*IMAGE, "--grid", "3", "--slic", "9"], "--grid", "--slic"))
    rows.append(([*STUDY, "--target", "POS", "--label-column", "label"], "--target", "--label-column"))
    rows.append(([*STUDY, "--keep-outputs", "--probes", "{probes}"], "--keep-outputs", "--probes"))
    rows.append(([*STUDY, "--keep-outputs", "--n-samples", "9"], "--keep-outputs", "--n-samples"))
    rows.append(([*TEXT, "--probes", "{probes}", "--out", "{probes}"], "--out", "{probes}"))
    rows.append(([*IMAGE, "--draw", "{picture}"], "--draw", "{picture}"))
    rows.append(([*SHOW[:1], "{probes}", "--report", "{new}.html"], "--report", "LinearProbes"))
    # what is missing, or too much
    for name, call in (("text", TEXT), ("image", IMAGE), ("study", STUDY), ("show", SHOW), ("probe", PROBE)):
        rows.append(([name], "MODEL" if name != "show" else "FILE", "Missing argument"))
        rows.append(([*call, "and", "more"], "unexpected extra argument", "and more"))
        rows.append(([*call, "--colour"], "--colour", "No such option"))
        rows.append(([*call, "--top"], "--top", "--top"))
    rows.append((["explain"], "explain", "No such command"))
    rows.append((["demo", "--report"], "--report", "requires an argument"))
    return rows
