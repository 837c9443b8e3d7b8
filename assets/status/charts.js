/* Line charts over the timeline's samples, by uPlot. */
'use strict';

const CHART_HEIGHT = 180;
const clock = (wallMs) => new Date(wallMs).toLocaleTimeString('en-GB');
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart in the element `id`; `series` are {label, colour, unit}. */
function makeChart(id, series, format) {
  const box = document.getElementById(id);
  const axis = () => ({ stroke: colour('--soft'), grid: { stroke: colour('--line') }, ticks: { stroke: colour('--line') } });
  const axes = () => [
    { ...axis(), size: 34, space: 90, values: (_chart, ticks) => ticks.map((seconds) => clock(1000 * seconds)) },
    { ...axis(), size: 70, values: (_chart, ticks) => ticks.map(format) },
  ];
  const options = {
    width: box.clientWidth,
    height: CHART_HEIGHT,
    padding: [null, 30, null, null], // half a time of day
    cursor: { drag: { x: false, y: false } },
    scales: { y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: axes(),
    series: [
      { value: (_chart, seconds) => (seconds == null ? '–' : clock(1000 * seconds)) },
      ...series.map(({ label, colour: name }) => ({
        label,
        stroke: colour(name),
        width: 2,
        points: { show: false },
        value: (_chart, value) => (value == null ? '–' : format(value)),
      })),
    ],
  };
  let chart = new uPlot(options, [[], ...series.map(() => [])], box);
  new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: CHART_HEIGHT })).observe(box);
  return {
    set: (data) => chart.setData(data),
    /** Colours follow light and dark. */
    repaint() {
      const data = chart.data;
      chart.destroy();
      options.width = box.clientWidth;
      options.axes = axes();
      for (const [index, one] of series.entries()) options.series[index + 1].stroke = colour(one.colour);
      chart = new uPlot(options, data, box);
    },
  };
}
