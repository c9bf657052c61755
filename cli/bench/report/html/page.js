/* Draws the charts of a bench report. Runs in the browser, reads what plot-data.ts computed; uPlot is in the page. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const styles = getComputedStyle(document.documentElement);
  const colour = (name) => styles.getPropertyValue(`--${name}`).trim();
  const sideColour = (i) => colour(`c${i % 5}`);
  const clear = (hex, alpha) =>
    hex +
    Math.round(alpha * 255)
      .toString(16)
      .padStart(2, "0");
  const time = uPlot.sync("time");
  let charts = [];

  const axis = (label, more) => ({
    label,
    labelSize: 20,
    labelFont: "12px system-ui, sans-serif",
    font: "11px system-ui, sans-serif",
    stroke: colour("faint"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1, size: 5 },
    ...more,
  });
  /** null and undefined: there is no value under the pointer. */
  const number = (value) =>
    typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 5 }) : "–";
  const percent = (_, value) => (typeof value === "number" ? `${number(value)} %` : "–");

  function draw(place, options, values) {
    const size = () => ({ width: Math.max(200, place.clientWidth), height: options.height });
    const chart = new uPlot({ ...options, ...size() }, values, place);
    charts.push({ chart, size });
  }

  /** x of all charts over time is the same, and zooms together. */
  const overTime = { x: { time: false } };
  const syncTime = { sync: { key: time.key, setSeries: false }, drag: { x: true, y: false } };

  function drawTimeline(place, { sent, first, ended, lane, numLanes, whole, title }) {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    place.append(tip);
    const paint = (u) => {
      const { ctx } = u;
      const height = Math.max(
        1,
        Math.abs(u.valToPos(0, "y", true) - u.valToPos(1, "y", true)) * 0.8,
      );
      const bar = (from, to, row, fill) => {
        const x = u.valToPos(from, "x", true);
        const width = Math.max(1, u.valToPos(to, "x", true) - x);
        ctx.fillStyle = fill;
        ctx.fillRect(x, u.valToPos(row, "y", true) - height / 2, width, height);
      };
      ctx.save();
      ctx.beginPath();
      ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
      ctx.clip();
      for (let i = 0; i < sent.length; i++) {
        if (ended[i] < u.scales.x.min || sent[i] > u.scales.x.max) continue;
        bar(sent[i], first[i] ?? ended[i], lane[i], colour("wait"));
        if (first[i] !== null) bar(first[i], ended[i], lane[i], sideColour(0));
        if (!whole[i]) bar(sent[i], ended[i], lane[i], clear(colour("bad"), 0.7));
      }
      ctx.restore();
    };
    const point = (u) => {
      const { left, top } = u.cursor;
      const at = u.posToVal(left, "x");
      const row = Math.round(u.posToVal(top, "y"));
      const i = sent.findIndex((_, j) => lane[j] === row && sent[j] <= at && at <= ended[j]);
      tip.hidden = left < 0 || i < 0;
      if (tip.hidden) return;
      const box = u.over.getBoundingClientRect();
      tip.textContent = title[i];
      tip.style.left = `${Math.min(box.left + left + 14, innerWidth - 320)}px`;
      tip.style.top = `${box.top + top + 14}px`;
    };
    draw(
      place,
      {
        height: Math.min(460, Math.max(150, numLanes * 16 + 70)),
        scales: { ...overTime, y: { range: [numLanes - 0.4, -0.6], dir: 1 } },
        axes: [
          axis("seconds", { size: 34 }),
          axis("", { size: 20, labelSize: 0, values: () => [] }),
        ],
        series: [{}, { paths: () => null, points: { show: false } }],
        legend: { show: false },
        cursor: { ...syncTime, points: { show: false }, y: false },
        hooks: { draw: [paint], setCursor: [point] },
      },
      [sent, lane],
    );
  }

  function drawTokens(place, { time, outputTokens, concurrency }) {
    const line = (label, i, scale, fill) => ({
      label,
      scale,
      stroke: sideColour(i),
      width: 1.5,
      points: { show: false },
      value: (_, value) => number(value),
      ...(fill ? { fill: clear(sideColour(i), 0.18) } : {}),
    });
    draw(
      place,
      {
        height: 240,
        scales: { ...overTime, tokens: { range: fromZero }, requests: { range: fromZero } },
        axes: [
          axis("seconds", { size: 34 }),
          axis("output tokens a second", { scale: "tokens", size: 60 }),
          axis("open requests", { scale: "requests", side: 1, grid: { show: false } }),
        ],
        series: [
          { label: "second", value: (_, value) => number(value) },
          line("output tokens/s", 0, "tokens", true),
          line("open requests", 1, "requests", false),
        ],
        cursor: syncTime,
      },
      [time, outputTokens, concurrency],
    );
  }

  /** A source has the same colour in every report. */
  const SOURCES = ["computed", "device", "host", "disk"];
  const sourceColour = (source, i) =>
    sideColour(SOURCES.includes(source) ? SOURCES.indexOf(source) : i + 1);

  const fromZero = (_, __, max) => [0, Math.max(1, (max ?? 0) * 1.08)];

  /** Each source stands on those before it; the legend shows its own value. */
  function drawSources(place, { promptTime, promptTokens }) {
    const sums = [];
    let below = promptTime.map(() => 0);
    for (const { values } of promptTokens) {
      below = below.map((sum, i) => sum + values[i]);
      sums.push(below);
    }
    draw(
      place,
      {
        height: 240,
        scales: { ...overTime, y: { range: fromZero } },
        axes: [axis("seconds", { size: 34 }), axis("prompt tokens a second", { size: 60 })],
        // The largest sum is drawn first, so that the smaller ones lie upon it.
        series: [
          { label: "second", value: (_, value) => number(value) },
          ...promptTokens
            .map(({ source, values }, i) => ({
              label: source,
              stroke: sourceColour(source, i),
              fill: sourceColour(source, i),
              width: 0,
              points: { show: false },
              paths: uPlot.paths.bars({ size: [0.85] }),
              value: (_, __, ___, index) => number(index === null ? null : values[index]),
            }))
            .reverse(),
        ],
        cursor: syncTime,
      },
      [promptTime, ...sums.reverse()],
    );
  }

  function drawDistribution(place, { logarithmic, edges, sides }) {
    const bars = sides.map(({ label }, i) => ({
      label: `${label}, share`,
      scale: "share",
      stroke: clear(sideColour(i), 0.5),
      fill: clear(sideColour(i), 0.35),
      width: 0,
      points: { show: false },
      paths: uPlot.paths.bars({ size: [1], align: -1 }),
      value: percent,
    }));
    const lines = sides.map(({ label }, i) => ({
      label: `${label}, cumulative`,
      scale: "all",
      stroke: sideColour(i),
      width: 2,
      points: { show: false },
      value: percent,
    }));
    draw(
      place,
      {
        height: 230,
        scales: {
          x: {
            time: false,
            distr: logarithmic ? 3 : 1,
            range: [edges[0], edges[edges.length - 1]],
          },
          share: { range: fromZero },
          all: { range: [0, 102] },
        },
        axes: [
          axis(logarithmic ? "milliseconds, logarithmic" : "milliseconds", { size: 34 }),
          axis("share of a bin, %", { scale: "share" }),
          axis("cumulative share, %", { scale: "all", side: 1, grid: { show: false } }),
        ],
        series: [{ label: "ms", value: (_, value) => number(value) }, ...bars, ...lines],
      },
      [edges, ...sides.map(({ share }) => share), ...sides.map(({ cumulative }) => cumulative)],
    );
  }

  function drawPerRun(place, { sides }) {
    const runs = sides[0].values.map((_, i) => i + 1);
    draw(
      place,
      {
        height: 210,
        scales: { x: { time: false, range: [0.5, runs.length + 0.5] }, y: { range: padded } },
        axes: [
          axis("run, in order", { size: 34, incrs: [1, 2, 5, 10, 20, 50] }),
          axis("", { size: 60, labelSize: 0 }),
        ],
        series: [
          { label: "run", value: (_, value) => number(value) },
          ...sides.map(({ label }, i) => ({
            label,
            stroke: sideColour(i),
            width: 1.5,
            spanGaps: true,
            points: { show: true, size: 8, fill: sideColour(i) },
            value: (_, value) => number(value),
          })),
        ],
      },
      [runs, ...sides.map(({ values }) => values)],
    );
  }

  const padded = (_, min, max) => {
    const room = Math.max((max - min) * 0.15, Math.abs(max) * 0.01) || 1;
    return [Math.max(0, min - room), max + room];
  };

  function drawAll() {
    for (const { chart } of charts) chart.destroy();
    charts = [];
    const chosen = document.getElementById("run");
    const run = data.runs[chosen === null ? 0 : Number(chosen.value)];
    for (const place of document.querySelectorAll("[data-chart]")) {
      place.replaceChildren();
      const index = Number(place.dataset.index);
      const drawers = {
        timeline: () => drawTimeline(place, run.timeline),
        tokens: () => drawTokens(place, run.series),
        sources: () => drawSources(place, run.series),
        distribution: () => drawDistribution(place, data.distributions[index]),
        runs: () => drawPerRun(place, data.perRun[index]),
      };
      drawers[place.dataset.chart]();
    }
  }

  drawAll();
  document.getElementById("run")?.addEventListener("change", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("resize", () => {
    for (const { chart, size } of charts) chart.setSize(size());
  });
})();
