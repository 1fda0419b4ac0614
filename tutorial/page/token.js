/* Open a token: what else could have stood there, before and after fine-tuning, and how the answer would go on then. */
'use strict';

figures.token = async (stage, {prompt, ids}) => {
  const [base, tuned] = [await load('base'), await load('tuned')], promptIds = tokenizer.encode(prompt), SHOWN = 8;
  let steps = [], at = 0, turn = 0;  // a step: the token that was taken, and both models' scores when it was
  const slider = h('input', {type: 'range', min: 0.2, max: 2, step: 0.1, value: 1, oninput: bars});
  const shown = h('output', {}, '1.0'), answer = h('div'), sentence = says(), table = h('div', {class: 'bars'});
  const drawn = h('span', {class: 'fine', role: 'status'});

  // Both models read `begin`, then the fine-tuned one goes on: to its end, or to the longest answer. The token whose
  // probability fine-tuning has raised most is opened, unless the reader has chosen a place.
  async function goOn(begin, temperature = 0, place = null) {
    const mine = ++turn, before = await base.read(promptIds), after = await tuned.read(promptIds), made = [];
    while (!after.done) {
      const step = {before: before.scores, after: after.scores};
      step.id = made.length < begin.length ? begin[made.length] : tuned.ids[choose(after.scores, temperature)];
      [step.p, step.q] = [step.before, step.after].map(scores => softmax(scores)[tuned.rows.get(step.id)]);
      made.push(step);
      before.take(step.id);
      after.take(step.id);
      await breathe();
    }
    if (mine !== turn) return;
    const again = temperature && made.every(({id, after}) => id === tuned.ids[likeliest(after)]);
    drawn.replaceChildren(again ? h('span', {class: 'new'}, plain('drawn again')) : '');
    [steps, at] = [made, place ?? likeliest(made.map(step => step.q - step.p))];
    draw();
  }

  const given = () => steps.slice(0, at).map(step => step.id);  // what was said before the opened token
  let line;
  function draw() {
    line = tokenLine(plain('answer'), steps.map(step => step.id), k => { if (k !== at) { at = k; bars(); } });
    line.nodes.forEach((node, k) => fill(node, steps[k].p));
    answer.replaceChildren(line.line);
    bars();
  }

  function bars() {
    const {id, before, after} = steps[at], temperature = Number(slider.value);
    const p = [softmax(before, temperature), softmax(after, temperature)];
    const best = p.map(list => Array.from(list.keys()).sort((a, b) => list[b] - list[a]).slice(0, SHOWN));
    const rows = [...new Set([tuned.rows.get(id), ...best[1].flatMap((row, i) => [row, best[0][i]])])].slice(0, SHOWN);
    rows.sort((a, b) => p[1][b] - p[1][a]);
    const pair = values => h('span', {class: 'two'}, values.map((value, i) => {
      const bar = h('i', {class: MODELS[i]});
      bar.style.setProperty('--p', value);
      return h('span', {}, bar, percent(value));
    }));
    const left = list => Math.max(0, 1 - rows.reduce((sum, row) => sum + list[row], 0));
    const focused = table.contains(document.activeElement);
    table.replaceChildren(...rows.map(row => {
      const other = tuned.ids[row], name = other === tokenizer.end ? plain('end') : dotted(other);
      const values = p.map(list => list[row]), [before, after] = values.map(percent);
      const node = button('', () => goOn([...given(), other], 0, at), {
        class: other === id ? 'taken' : '', 'aria-pressed': String(other === id),
        'aria-label': plain('bar', {token: name, before, after})});
      node.append(h('span', {class: 'what'}, name), pair(values));
      return node;
    }), h('p', {}, h('span', {class: 'what'}, plain('others')), pair(p.map(left))));
    if (focused) table.querySelector('.taken').focus({preventScroll: true});
    shown.textContent = temperature.toFixed(1);
    line.mark(at);
    const [chance, chanceAfter] = p.map(list => percent(list[tuned.rows.get(id)]));
    sentence.replaceChildren(...say(at ? 'token after' : 'token first', {
      said: quote('read', tokenizer.decode(given())), token: quote(id === tokenizer.end ? 'end' : 'pad', bare(raw(id))),
      before: chance, after: chanceAfter}));
  }

  const asked = prompt.slice(page.prompt.indexOf('{')).split('### Response:')[0].replace('### Input:', '').trim();
  stage.append(h('p', {class: 'how'}, say('how token')), h('p', {class: 'asked'}, asked), answer, sentence,
    legend(MODELS), table,
    h('div', {class: 'row'}, h('label', {class: 'temperature'}, plain('temperature'), slider, shown),
      h('span', {class: 'choices'}, button(plain('draw'), () => goOn([], Number(slider.value))),
        button(plain('greedy'), () => goOn([]))), drawn),
    h('p', {class: 'fine'}, say('caption token')));
  await goOn(ids);
};
