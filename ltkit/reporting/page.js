"use strict";

// Long lists that the page has more than once are stored once.
function whole(value, shared) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((each) => whole(each, shared));
  if (value.$shared !== undefined) return shared[value.$shared];
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, whole(each, shared)]));
}

// Of thousands of classes there is so much that it is stored compressed.
async function text({ type, textContent }) {
  if (type === "application/json") return textContent;
  const packed = Uint8Array.from(atob(textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).text();
}

const { shared, ...stored } = JSON.parse(await text(document.getElementById("data")));
const data = whole(stored, shared);
const { classes, labels } = data;
const root = document.documentElement;
const near = new Map((data.neighbors.class || []).map((id, place) => [id, place]));

// Text: names come from outside.

const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const visible = (text) =>
  String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu, (c) => {
    if (c in SHORT) return SHORT[c];
    const code = c.codePointAt(0).toString(16);
    return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
  });

const short = (text, longest = 40) => {
  const letters = [...visible(text)];
  return letters.length > longest ? `${letters.slice(0, longest).join("")}…` : letters.join("");
};

// Plotly reads tags and entities in its texts. Names written from right to left stay together.
const plotted = (text) => {
  const safe = short(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(safe) ? `\u2068${safe}\u2069` : safe;
};

const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);

const narrow = () => window.innerWidth < 600;

// Hover texts.

const mistakes = (id, setting) =>
  classes.mistaken[setting][id].map(([other, count]) => [
    classes.name[other],
    Number.isInteger(count) ? count : count.toFixed(1),
  ]);

const learned = (id, setting) => {
  const fit = data.alpha.find((row) => row.setting === setting);
  const place = fit ? fit.class.indexOf(id) : -1;
  if (place < 0) return [];
  return fit.neighbor[place].map((other, rank) => [other, fit.alpha[place][rank]]);
};

function classText(id, setting) {
  const lines = [
    `<b>${plotted(classes.name[id])}</b>`,
    `${classes.train_count[id]} training images (${classes.group[id]})`,
    labels.length > 1 && setting
      ? `accuracy ${percent(classes.accuracy[0][id])} → ${percent(classes.accuracy[setting][id])}`
      : `accuracy ${percent(classes.accuracy[0][id])}`,
  ];
  if (near.has(id)) {
    const names = data.neighbors.neighbor[near.get(id)].map((c) => plotted(classes.name[c]));
    lines.push(`near: ${names.join(", ")}`);
  }
  const alphas = learned(id, setting).slice(0, 5);
  if (alphas.length) lines.push(`α̃: ${alphas.map(([, a]) => a.toFixed(2)).join(", ")}`);
  const wrong = mistakes(id, setting).slice(0, 3).map(([name, n]) => `${plotted(name)} (${n})`);
  if (wrong.length) lines.push(`taken for ${wrong.join(", ")}`);
  return lines.join("<br>");
}

const cellName = (ids) =>
  plotted(classes.name[ids[0]]) +
  (ids.length > 1 ? ` to ${plotted(classes.name[ids[ids.length - 1]])}` : "");

// What a trace's points are called, by its meta.
const hovers = {
  class: (trace, setting) => ({
    hovertext: trace.customdata.map((id) => classText(id, trace.legendgroup === "before" ? 0 : setting)),
    hovertemplate: "%{hovertext}<extra></extra>",
    ...(trace.text && narrow() ? { mode: "markers" } : {}), // no room for names
  }),
  value: (trace) => ({
    text: trace.customdata.map((id) => `${plotted(classes.name[id])}, ${classes.train_count[id]}`),
    hovertemplate: "%{text} training images: %{y:.4g}<extra>%{fullData.name}</extra>",
  }),
  alpha: (trace) => ({
    hovertext: trace.customdata.map((row) =>
      row.map(([id, other]) => `${plotted(classes.name[id])} from ${plotted(classes.name[other])}`),
    ),
    hovertemplate: "%{hovertext}: α̃ %{z:.3f}<extra></extra>",
  }),
  cell: (trace) => {
    const names = data.cells.map(cellName);
    return {
      text: trace.z.map((row, t) => row.map((_, p) => `${names[t]} taken for ${names[p]}`)),
      hovertemplate: "%{text}: %{z} %<extra></extra>",
    };
  },
  tree: () => ({}),
};

// Figures: each is drawn when it comes near the window.

const drawn = new Map(); // element -> view

function colors() {
  const of = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  return { ink: of("--ink"), line: of("--line"), panel: of("--panel"), soft: of("--soft") };
}

function layoutOf(own, size) {
  const { ink, line, panel, soft } = colors();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  return {
    font: { color: ink, family: "system-ui, sans-serif", size: narrow() ? 11 : 12 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 50, r: 12, t: 12, b: 44 },
    legend: { orientation: "h", itemsizing: "constant", yref: "container", y: 0, yanchor: "bottom" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
    hoverlabel: { align: "left", bgcolor: panel, bordercolor: line, font: { color: ink } },
    ...own,
    ...size,
    xaxis: { ...axis, ...own.xaxis },
    yaxis: { ...axis, ...own.yaxis },
  };
}

const config = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // by default a button uploads the chart
  plotlyServerURL: "",
  toImageButtonOptions: { format: "svg" },
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

async function draw(plot, view, size = {}) {
  const { views } = data.exhibits[plot.dataset.key];
  const { layout, setting } = views[view];
  const traces = views[view].data.map(({ like, ...own }) => ({ ...views[0].data[like], ...own }));
  const named = traces.map((t) => (t.meta in hovers ? { ...t, ...hovers[t.meta](t, setting) } : t));
  const first = !drawn.has(plot);
  drawn.set(plot, view);
  await Plotly.react(plot, named, layoutOf(layout, size), config);
  if (first) {
    plot.on("plotly_click", ({ points }) => {
      const { customdata, data: trace } = points[0];
      if (trace.meta === "class" || trace.meta === "value") showClass(customdata);
      if (trace.meta === "alpha") showClass(customdata[0]);
      if (trace.meta === "tree" && customdata !== null && customdata !== undefined)
        showClass(customdata);
    });
  }
  plot.dataset.drawn = String(view);
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting || drawn.has(target)) continue;
      watcher.unobserve(target);
      draw(target, 0);
    }
  },
  { rootMargin: "200px" },
);
const plots = document.querySelectorAll(".plot");
for (const plot of plots) watcher.observe(plot);

for (const select of document.querySelectorAll("select[data-views]"))
  select.addEventListener("change", () =>
    draw(document.getElementById(`plot-${select.dataset.views}`), Number(select.value)),
  );

// The card of a class.

function element(tag, content, attributes = {}) {
  const made = document.createElement(tag);
  made.append(...(Array.isArray(content) ? content : [content]));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function nameOf(id) {
  const button = element("button", element("bdi", short(classes.name[id], 60)), { class: "link" });
  button.addEventListener("click", () => showClass(id));
  return button;
}

function table(heads, rows) {
  const labelled = (tag, place) => (tag === "td" ? { "data-label": visible(heads[place]) } : {});
  const line = (tag, cells) =>
    element("tr", cells.map((cell, place) => element(tag, cell, labelled(tag, place))));
  const body = [
    element("thead", line("th", heads)),
    element("tbody", rows.map((row) => line("td", row))),
  ];
  return element("div", element("table", body), { class: "scroll" });
}

function showClass(id) {
  const title = document.getElementById("card-title");
  title.replaceChildren(element("bdi", visible(classes.name[id])));
  const facts = `Class ${id}, ${classes.train_count[id]} training images (${classes.group[id]}), ${classes.samples[id]} samples in this split.`;
  const parts = [element("p", facts, { class: "facts" })];
  const pictures = (data.thumbnails[id] || []).map((src) => element("img", "", { src, alt: "" }));
  if (pictures.length) parts.push(element("div", pictures, { class: "pictures" }));
  parts.push(
    table(
      ["setting", "accuracy", "taken for (samples)"],
      labels.map((name, setting) => [
        visible(name),
        percent(classes.accuracy[setting][id]),
        mistakes(id, setting).flatMap(([other, count], place) => [
          place ? ", " : "",
          element("bdi", short(other)),
          ` (${count})`,
        ]),
      ]),
    ),
  );
  if (near.has(id)) {
    const place = near.get(id);
    // Random controls have neighbours of their own in each run: they are in the CSV.
    const fits = data.alpha.filter((fit) => fit.same && fit.class.includes(id));
    const alphas = fits.map((fit) => new Map(learned(id, fit.setting)));
    const others = new Set([...data.neighbors.neighbor[place], ...alphas.flatMap((a) => [...a.keys()])]);
    const distance = new Map(
      data.neighbors.neighbor[place].map((c, rank) => [c, data.neighbors.distance[place][rank]]),
    );
    parts.push(
      table(
        ["neighbour", `${data.neighbors.metric} distance`, "training images", ...fits.map((f) => `α̃, ${visible(f.label)}`)],
        [...others].slice(0, 12).map((c) => [
          nameOf(c),
          distance.has(c) ? distance.get(c).toPrecision(3) : "–",
          String(classes.train_count[c]),
          ...alphas.map((a) => (a.has(c) ? a.get(c).toFixed(3) : "–")),
        ]),
      ),
    );
  }
  document.getElementById("card-body").replaceChildren(...parts);
  document.getElementById("card").scrollIntoView({ block: "nearest" });
}

const choice = document.getElementById("class-choice"); // a study's page has none
choice?.addEventListener(
  "focus",
  () =>
    document.getElementById("class-names").append(
      ...classes.name.map((name, id) => element("option", "", { value: `${id}: ${short(name)}` })),
    ),
  { once: true },
);
choice?.addEventListener("change", () => {
  const wanted = choice.value.trim();
  const number = /^(\d+)(:|$)/.exec(wanted);
  const id = number ? Number(number[1]) : classes.name.findIndex((name) => name === wanted);
  if (id >= 0 && id < classes.name.length) return showClass(id);
  document.getElementById("card-title").replaceChildren("No such class");
  const said = `${short(wanted, 60)}: expected a name, or a number from 0 to ${classes.name.length - 1}.`;
  document.getElementById("card-body").replaceChildren(element("p", said));
});

// CSV: a spreadsheet must not take a cell for a formula.

function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const safe = value.replace(/(?:^|;)\s*(?=[=+\-@＝＋－＠])/g, "$&'"); // as ltkit.files.tables
  return `"${safe.replace(/"/g, '""')}"`;
}

function csvOf({ columns, values }) {
  const read = values.map((v) => (Array.isArray(v) ? v : v.at.map((place) => v.of[place])));
  const rows = read.length ? read[0].map((_, row) => read.map((column) => column[row])) : [];
  return `${[columns, ...rows].map((row) => row.map(csvCell).join(",")).join("\n")}\n`;
}

for (const button of document.querySelectorAll("button[data-csv]"))
  button.addEventListener("click", () => {
    const key = button.dataset.csv;
    const url = URL.createObjectURL(new Blob([csvOf(data.exhibits[key])], { type: "text/csv" }));
    element("a", "", { href: url, download: `${key}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });

// Light and dark: the system's choice, until the switch is used.

const scheme = document.getElementById("scheme");
const system = window.matchMedia("(prefers-color-scheme: dark)");

function paint(dark) {
  root.dataset.scheme = dark ? "dark" : "light";
  scheme.textContent = dark ? "Light theme" : "Dark theme"; // what it changes to
  for (const [plot, view] of drawn) draw(plot, view);
}
scheme.addEventListener("click", () => paint(root.dataset.scheme !== "dark"));
system.addEventListener("change", () => paint(system.matches));

// On paper: light, every figure drawn, as wide as the page.

const PAPER = { width: 680, height: 0.82 }; // pixels across A4; share of the height on screen
let onScreen = "";

window.addEventListener("beforeprint", () => {
  onScreen = root.dataset.scheme;
  root.dataset.scheme = "light";
  for (const plot of plots) {
    plot.dataset.height ||= plot.style.height;
    const height = Math.round(parseInt(plot.dataset.height) * PAPER.height);
    plot.style.height = `${height}px`;
    draw(plot, drawn.get(plot) || 0, { width: PAPER.width, height });
  }
});
window.addEventListener("afterprint", () => {
  for (const plot of plots) plot.style.height = plot.dataset.height;
  paint(onScreen === "dark");
});

// The command.

const copy = document.getElementById("copy");
if (copy)
  copy.addEventListener("click", async () => {
    const command = document.getElementById("command");
    window.getSelection().selectAllChildren(command);
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch {
      if (!document.execCommand("copy")) return; // it stays selected, to be copied by hand
    }
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });

paint(system.matches);
if (plots.length) draw(plots[0], 0);
Object.assign(window, { classText, classes, shared, showClass }); // for the browser's console
