'use strict';
// Draws the charts, and shows what belongs to the width that the slider chooses.

const slider = document.getElementById('width');
const shown = document.querySelector('.bar output');
const widths = JSON.parse(slider.dataset.widths); // narrowest first
const charts = [...document.querySelectorAll('.chart')];
const config = { responsive: true, displayModeBar: false };
// Of A4, beside one another; the screen's width does not fit.
const printed = { width: 340, height: 250 };

function strength(trace, width) {
  if (!trace.meta) return { opacity: 1, visible: true };
  const own = trace.meta.width === width;
  return { opacity: own ? 1 : 0.3, visible: own || !trace.meta.only };
}

async function draw() {
  for (const chart of charts) {
    const figure = JSON.parse(chart.nextElementSibling.textContent);
    // The slider may have moved since.
    const data = figure.data.map((trace) => ({ ...trace, ...strength(trace, chosen()) }));
    await Plotly.newPlot(chart, data, figure.layout, config);
  }
  document.body.dataset.drawn = charts.length;
}

function choose(width) {
  shown.textContent = width;
  for (const part of document.querySelectorAll('[data-width]')) {
    part.hidden = part.dataset.width !== width;
  }
  for (const row of document.querySelectorAll('[data-row]')) {
    row.classList.toggle('chosen', row.dataset.row === width);
  }
  for (const chart of drawn()) {
    const states = chart.data.map((trace) => strength(trace, width));
    Plotly.restyle(chart, {
      opacity: states.map((state) => state.opacity),
      visible: states.map((state) => state.visible),
    });
  }
}

function drawn() {
  return charts.filter((chart) => chart.data);
}

function chosen() {
  return widths[slider.valueAsNumber];
}

slider.addEventListener('input', () => choose(chosen()));
addEventListener('beforeprint', () => {
  for (const folded of document.querySelectorAll('details')) folded.open = true;
  for (const chart of drawn()) Plotly.relayout(chart, printed);
});
addEventListener('afterprint', () => {
  for (const chart of drawn()) {
    Plotly.relayout(chart, { width: null, height: null, autosize: true });
  }
});
choose(chosen());
draw();
