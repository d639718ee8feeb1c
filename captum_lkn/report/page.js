"use strict";
(() => {
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const one = (selector, within = document) => within.querySelector(selector);
  const effects = one("#effects");
  const state = { sample: "0", layer: 0, kind: "", players: new Set() };

  // ------------------------------------------------------------ tables: sort, filter, keys

  const cellValue = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim().toLowerCase();
    const value = parseFloat(cell.dataset.v ?? cell.textContent); // an effect has more digits than are shown
    return Number.isNaN(value) ? null : value;
  };

  const sortBy = (table, column, direction) => {
    const head = all("th", table)[column];
    const numeric = head.classList.contains("n");
    // Effects sort by strength, the ends of their ranges by value.
    const strength = table === effects && (column === 3 || head.textContent.startsWith("at "));
    const rows = Array.from(table.tBodies[0].rows);
    const keyed = rows.map((row, place) => ({ row, place, key: cellValue(row, column, numeric) }));
    const size = (x) => (strength ? Math.abs(x) : x);
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      const [x, y] = numeric ? [size(a.key), size(b.key)] : [a.key, b.key];
      const order = numeric ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return (direction === "ascending" ? order : -order) || a.place - b.place;
    });
    table.tBodies[0].append(...keyed.map(({ row }) => row));
    all("th", table).forEach((th, i) => th.setAttribute("aria-sort", i === column ? direction : "none"));
  };

  const sorted = (table) => all("th", table).findIndex((th) => th.getAttribute("aria-sort") !== "none");

  const filterField = (table) => one(".filter", table.closest(".listing"));

  const applyFilter = (table) => {
    const field = filterField(table);
    const wanted = field ? field.value.trim().toLowerCase().split(/\s+/).filter(Boolean) : [];
    let shown = 0, possible = 0;
    for (const row of table.tBodies[0].rows) {
      let fits = true;
      if (table === effects) {
        fits = row.dataset.sample === state.sample;
        possible += fits;
        const members = row.dataset.members.split(" ");
        fits = fits && (!state.kind || row.cells[0].textContent === state.kind);
        fits = fits && Array.from(state.players).every((player) => members.includes(player));
      } else possible += 1;
      const text = row.textContent.toLowerCase();
      row.hidden = !(fits && wanted.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    const count = one(".count", table.closest(".listing"));
    if (count) count.textContent = shown === possible ? `${shown} rows` : `${shown} of ${possible} rows`;
    if (table === effects) reachable();
  };

  // One row takes part in the order of the Tab key; the arrow keys move among the others.
  const visibleRows = () => Array.from(effects.tBodies[0].rows).filter((row) => !row.hidden);
  const reachable = (chosen) => {
    const rows = visibleRows();
    for (const row of effects.tBodies[0].rows) row.tabIndex = -1;
    const target = chosen || rows[0];
    if (target) target.tabIndex = 0;
  };

  for (const table of all("table.sortable")) {
    all("th", table).forEach((th, column) =>
      one("button", th).addEventListener("click", () => {
        const first = th.classList.contains("n") ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        sortBy(table, column, th.getAttribute("aria-sort") === first ? other : first);
      }));
    const field = filterField(table);
    if (field) field.addEventListener("input", () => applyFilter(table));
  }

  if (!effects) return;

  // ------------------------------------------------------------ light

  const stage = () => one(`.stage[data-sample="${state.sample}"]`);

  const light = (members, row) => {
    for (const node of all("[data-player]", stage())) {
      node.classList.toggle("lit", members.includes(node.dataset.player));
      node.classList.toggle("dim", members.length > 0 && !members.includes(node.dataset.player));
    }
    for (const other of all("tr.lit", effects)) other.classList.remove("lit");
    if (row) row.classList.add("lit");
  };

  const rowOf = (event) => event.target.closest("tbody tr");
  effects.addEventListener("mouseover", (event) => {
    const row = rowOf(event);
    if (row) light(row.dataset.members.split(" "), row);
  });
  effects.addEventListener("mouseleave", () => light([]));
  effects.addEventListener("focusin", (event) => {
    const row = rowOf(event);
    if (row) { reachable(row); light(row.dataset.members.split(" "), row); }
  });
  effects.addEventListener("focusout", () => light([]));
  effects.addEventListener("keydown", (event) => {
    const row = rowOf(event);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!row || !step) return;
    const rows = visibleRows();
    const next = rows[rows.indexOf(row) + step];
    if (next) { event.preventDefault(); next.focus(); }
  });

  const lightRows = (player) => {
    for (const row of effects.tBodies[0].rows)
      row.classList.toggle("lit", player !== null && !row.hidden && row.dataset.members.split(" ").includes(player));
  };

  for (const node of all("[data-player]")) {
    node.addEventListener("mouseenter", () => lightRows(node.dataset.player));
    node.addEventListener("mouseleave", () => lightRows(null));
    node.addEventListener("click", () => {
      const { player } = node.dataset;
      if (!state.players.delete(player)) state.players.add(player);
      pressed();
      applyFilter(effects);
    });
  }

  const pressed = () => {
    for (const node of all("[data-player]")) {
      const chosen = state.players.has(node.dataset.player);
      node.classList.toggle("chosen", chosen);
      if (node.hasAttribute("aria-pressed")) node.setAttribute("aria-pressed", chosen);
    }
  };

  for (const button of all("button.kind"))
    button.addEventListener("click", () => {
      state.kind = button.dataset.kind;
      for (const other of all("button.kind")) other.setAttribute("aria-pressed", other === button);
      applyFilter(effects);
    });

  // ------------------------------------------------------------ samples and layers

  const write = (value, digits) => {
    const text = digits < 0 ? Math.abs(value).toExponential(2) : Math.abs(value).toFixed(digits);
    return (value < 0 ? "-" : "+") + text;
  };

  const numbers = (text) => text.split(" ").map(Number);

  const showLayer = (layer) => {
    state.layer = layer;
    for (const row of effects.tBodies[0].rows) {
      const place = one(`.stage[data-sample="${row.dataset.sample}"]`).dataset;
      const value = numbers(row.dataset.effects)[layer];
      row.cells[3].dataset.v = value;
      row.cells[3].textContent = value === 0 ? "0" : write(value, Number(place.digits));
      const bar = one(".bar i", row);
      bar.className = value > 0 ? "positive" : "negative";
      bar.style.setProperty("--w", `${(100 * Math.abs(value)) / Number(place.largest)}%`);
      row.classList.toggle("absent", value === 0);
    }
    for (const node of all("[data-tints]")) {
      const value = numbers(node.dataset.tints)[layer];
      node.style.setProperty("--t", Math.abs(value));
      node.classList.toggle("positive", value > 0);
      node.classList.toggle("negative", value <= 0);
    }
    for (const node of all("[data-notes]")) node.textContent = JSON.parse(node.dataset.notes)[layer];
    const column = sorted(effects);
    if (column === 3) sortBy(effects, 3, all("th", effects)[3].getAttribute("aria-sort"));
  };

  const showSample = (sample) => {
    state.sample = sample;
    state.players.clear();
    pressed();
    light([]);
    for (const each of all(".stage")) each.hidden = each.dataset.sample !== sample;
    for (const pick of all(".pick")) pick.setAttribute("aria-pressed", pick.dataset.sample === sample);
    const choice = one("#sample");
    if (choice) choice.value = sample;
    applyFilter(effects);
  };

  const slider = one("#layer");
  if (slider) {
    const names = JSON.parse(slider.dataset.names);
    slider.addEventListener("input", () => {
      const name = names[Number(slider.value)];
      slider.setAttribute("aria-valuetext", name);
      one("#layer-name").textContent = name;
      showLayer(Number(slider.value));
    });
  }
  const choice = one("#sample");
  if (choice) choice.addEventListener("change", () => showSample(choice.value));
  for (const pick of all(".pick"))
    pick.addEventListener("click", () => {
      showSample(pick.dataset.sample);
      effects.closest("section").scrollIntoView({ block: "start" });
    });

  const last = slider ? Number(slider.max) : 0;
  if (slider) slider.value = last;
  showLayer(last);
  sortBy(effects, 3, "descending");
  for (const table of all("table.sortable")) applyFilter(table);
  showSample("0");
  document.documentElement.classList.add("ready");
})();
