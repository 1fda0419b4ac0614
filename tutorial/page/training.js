/* Drag the training: answers rewrite themselves, and a mark moves along the curves. The slider is the curves' axis. */
'use strict';

figures.training = async (stage, {steps, losses, answers}) => {
  const LEFT = 40, RIGHT = 16, HEIGHT = 150, TOP = 12, END = '<|endoftext|>', last = steps.length - 1;
  let k = 0, timer = null;
  const slider = h('input', {type: 'range', min: 0, max: last, step: 1, value: 0, 'aria-label': plain('step slider'),
    oninput: () => { stop(); show(Number(slider.value)); }});
  const play = button('', start, {class: 'play'}), sentence = says();
  const curves = h('div', {class: 'curves', onclick: point});

  // Stops stand at equal distances, though their steps double; between two of them the axis is linear.
  function place(step) {
    const next = steps.findIndex(stop => stop >= step);
    if (next < 0) return last;
    return next === 0 ? 0 : next - (steps[next] - step) / (steps[next] - steps[next - 1]);
  }
  function at(curve, step) {  // the loss at a step, or the nearest that was noted
    return curve.reduce((best, point) => Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best);
  }
  function svg(tag, attributes, text = '') {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  }

  function plot() {
    const width = curves.clientWidth, bottom = HEIGHT - 26;
    if (!width) return;
    const highest = Math.max(...Object.values(losses).flat().map(([, loss]) => loss));
    const x = step => LEFT + place(step) / last * (width - LEFT - RIGHT);
    const y = loss => bottom - loss / highest * (bottom - TOP);
    const picture = svg('svg', {width, height: HEIGHT, role: 'img', 'aria-label': plain('curves')});
    for (let loss = 0; loss <= highest; loss++) {
      picture.append(svg('line', {class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(loss), y2: y(loss)}),
        svg('text', {x: LEFT - 8, y: y(loss) + 4, 'text-anchor': 'end'}, loss));
    }
    steps.forEach((step, i) => picture.append(svg('text', {
      class: i === k ? 'now' : '', x: x(step), y: HEIGHT - 6, 'text-anchor': 'middle'}, number(step))));
    picture.append(svg('line', {class: 'mark', x1: x(steps[k]), x2: x(steps[k]), y1: 0, y2: bottom}));
    for (const [name, curve] of Object.entries(losses)) {
      const [step, loss] = at(curve, steps[k]);
      picture.append(svg('path', {class: name, d: `M${curve.map(point => `${x(point[0])} ${y(point[1])}`).join('L')}`}),
        svg('circle', {class: name, cx: x(step), cy: y(loss), r: 4.5}));
    }
    curves.replaceChildren(picture);
  }

  function point({clientX}) {  // the chart can be clicked, too
    const {left, width} = curves.getBoundingClientRect(), way = (clientX - left - LEFT) / (width - LEFT - RIGHT);
    stop();
    show(Math.round(last * Math.min(1, Math.max(0, way))));
  }

  const items = answers.map(({question}) => ({said: h('p', {class: 'said'}), question}));
  function show(now) {
    k = now;
    let exact = 0;
    items.forEach(({said}, i) => {
      const tokens = answers[i].said[k], texts = tokens.map(([token]) => token);
      const ended = texts[texts.length - 1] === END;
      const right = ended && texts.slice(0, -1).join('').trim() === answers[i].answer;
      exact += right;
      said.replaceChildren(...right ? [h('b', {class: 'right'}, '✓ ')] : [], ...tokens.flatMap(([token, p]) => {
        const node = token === END ? h('span', {class: 't end'}, '■') : h('span', {class: 't'}, bare(token));
        fill(node, p);
        return spaced(token, node);
      }), ended ? '' : ' …');
    });
    slider.value = k;
    const places = {step: number(steps[k]), exact, n: answers.length};
    for (const [name, curve] of Object.entries(losses)) places[name] = at(curve, steps[k])[1].toFixed(2);
    slider.setAttribute('aria-valuetext', plain('step', {step: places.step}));
    sentence.replaceChildren(...say('training says', places));
    plot();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = '▶';
    play.setAttribute('aria-label', plain('play'));
  }
  function start() {
    if (timer) return stop();
    const next = () => { show(k === last ? 0 : k + 1); if (k === last) stop(); };
    timer = setInterval(next, 1100);
    play.textContent = '❚❚';
    play.setAttribute('aria-label', plain('pause'));
    next();
  }

  stage.append(
    h('p', {class: 'how'}, say('how training')),
    h('div', {class: 'axis'}, legend(Object.keys(losses)), curves, h('div', {class: 'scrub'}, play, slider), sentence),
    h('div', {class: 'eight'}, items.map(({question, said}) =>
      h('div', {}, h('p', {class: 'asked'}, question), said))),
    h('p', {class: 'fine'}, say('caption training')));
  stop();
  show(0);
  new ResizeObserver(plot).observe(curves);
};
