/** The ratios of a comparison as a drawing: a line is the interval, a dot the ratio, the dashed line 1. */

import type { Comparison, MetricComparison } from "../../ab/comparison.ts";
import { escapeHtml } from "./escape.ts";

const WIDTH = 760;
const LEFT = 190;
const RIGHT = 150;
const ROW = 26;
const TOP = 26;

/** SVG; empty where no metric has an interval. Colours are classes of `page.css`. */
export function ratioChart({ metrics }: Comparison): string {
  const rows = metrics.filter(({ interval }) => interval !== undefined);
  if (rows.length === 0) return "";
  const widest = Math.max(
    0.01,
    ...rows.flatMap(({ interval }) => [
      Math.abs(Math.log(interval?.low ?? 1)),
      Math.abs(Math.log(interval?.high ?? 1)),
    ]),
  );
  // No wider than a hundredfold: one hopeless interval must not hide the others.
  const reach = Math.min(Math.log(100), widest * 1.1);
  const place = (ratio: number): number => {
    const share = Math.max(-1, Math.min(1, Math.log(ratio) / reach));
    return LEFT + ((share + 1) / 2) * (WIDTH - LEFT - RIGHT);
  };
  const height = TOP + rows.length * ROW + 24;
  const ticks = [Math.exp(-reach), Math.exp(-reach / 2), 1, Math.exp(reach / 2), Math.exp(reach)];
  return [
    `<svg class="ratios" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="ratios b / a with 95 % intervals">`,
    ...ticks.map((tick) => {
      const x = place(tick).toFixed(1);
      const style = tick === 1 ? "one" : "tick";
      return `<line class="${style}" x1="${x}" x2="${x}" y1="${TOP - 6}" y2="${height - 22}"/><text class="label" x="${x}" y="${height - 6}" text-anchor="middle">${tick.toPrecision(3)}</text>`;
    }),
    ...rows.map((row, i) => ratioRow(row, TOP + i * ROW + ROW / 2, place)),
    "</svg>",
  ].join("\n");
}

function ratioRow(
  { metric, interval, verdict }: MetricComparison,
  y: number,
  place: (ratio: number) => number,
): string {
  if (interval === undefined) return "";
  const [x, from, to] = [interval.ratio, interval.low, interval.high].map((ratio) =>
    place(ratio).toFixed(1),
  );
  const style =
    verdict === "no difference" ? "same" : verdict.startsWith("a") ? "side-0" : "side-1";
  return [
    `<text x="${LEFT - 14}" y="${y + 4}" text-anchor="end">${escapeHtml(metric.name)}</text>`,
    `<line class="interval ${style}" x1="${from}" x2="${to}" y1="${y}" y2="${y}"/>`,
    `<circle class="${style}" cx="${x}" cy="${y}" r="4.5"/>`,
    `<text class="label" x="${WIDTH - RIGHT + 14}" y="${y + 4}">${interval.ratio.toFixed(3)} · ${escapeHtml(verdict)}</text>`,
  ].join("");
}
