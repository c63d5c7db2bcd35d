'use strict';
// Reading values: a chart's slider chooses an epoch, and so does pointing at the chart.
for (const chart of document.querySelectorAll('.chart')) {
  const { epochs, x, said } = JSON.parse(chart.dataset.readings);
  const svg = chart.querySelector('svg');
  const cursor = chart.querySelector('.cursor');
  const label = chart.querySelector('.slider');
  const slider = label.querySelector('input');
  const text = chart.querySelector('.said');
  const show = () => {
    const i = Number(slider.value);
    cursor.setAttribute('x1', x[i]);
    cursor.setAttribute('x2', x[i]);
    cursor.style.visibility = 'visible';
    slider.setAttribute('aria-valuetext', `epoch ${epochs[i]}`);
    text.textContent = `epoch ${epochs[i]}: ${said[i]}`;
  };
  label.hidden = epochs.length < 2;
  slider.addEventListener('input', show);
  svg.addEventListener('pointermove', (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(
      svg.getScreenCTM().inverse()).x;
    const nearest = x.reduce((best, one, i) => (
      Math.abs(one - at) < Math.abs(x[best] - at) ? i : best), 0);
    if (Number(slider.value) !== nearest || !text.textContent) {
      slider.value = nearest;
      show();
    }
  });
}
for (const scatter of document.querySelectorAll('.scatter')) {
  const text = scatter.querySelector('.said');
  for (const point of scatter.querySelectorAll('.point')) {
    const show = () => { text.textContent = point.getAttribute('aria-label'); };
    point.addEventListener('pointerenter', show);
    point.addEventListener('focus', show);
  }
}
