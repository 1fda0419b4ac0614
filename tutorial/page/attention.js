/* Point at attention: where a head looks from a token, before and after fine-tuning. */
'use strict';

figures.attention = async (stage, {prompt}) => {
  const tuned = await load('tuned'), answer = await tuned.read(tokenizer.encode(prompt));
  while (!answer.done) { answer.next(); await breathe(); }
  const ids = [...tokenizer.encode(prompt), ...answer.ids], heads = tuned.gpt.heads, layers = tuned.gpt.blocks.length;
  const looks = [await (await load('base')).attention(ids), await tuned.attention(ids)];

  // All before the question is shown as one.
  const first = tokenizer.encode(page.prompt.split('{')[0]).length;
  const opening = h('span', {class: 't control'}, plain('preamble'));
  let model = 1, at = tokenizer.encode(prompt).length - 1, head = mostChanged();

  function mostChanged() {  // the head whose look from here fine-tuning has changed most
    const [before, after] = looks.map(look => look[at]);
    return likeliest(before.map((weights, i) => weights.reduce((sum, p, t) => sum + Math.abs(p - after[i][t]), 0)));
  }

  const {line, nodes, mark} = tokenLine(plain('text'), ids.slice(first), k => { at = first + k; draw(); }, true);
  line.prepend(opening, h('br'));
  const strips = Array.from({length: layers * heads}, (_, place) => {
    const layer = place % layers, row = Math.floor(place / layers);  // a column a layer
    const strip = button('', () => { head = strip.head; draw(); }, {
      role: 'radio', class: 'head', 'aria-label': plain('head', {layer: layer + 1, head: row + 1})});
    strip.head = layer * heads + row;
    strip.append(...ids.slice(first - 1).map(() => h('i')));
    return strip;
  });
  const sentence = says(), grid = h('div', {class: 'heads', role: 'radiogroup', 'aria-label': plain('heads')}, strips);
  walk(grid, '.head', strip => strip.click());

  const before = weights => weights.slice(0, first).reduce((sum, p) => sum + p, 0);
  function farthest(weights) {  // what a head looks at most, and with which weight, as the line of tokens shows it
    const shown = [before(weights), ...weights.slice(first)], t = likeliest(shown);
    return {token: quote('read', t ? bare(raw(ids[first + t - 1])) : plain('preamble')), p: percent(shown[t])};
  }

  function draw() {
    const weights = looks[model][at][head];
    fill(opening, before(weights));
    nodes.forEach((node, k) => {
      fill(node, weights[first + k] ?? 0);
      node.classList.toggle('later', first + k > at);
    });
    mark(at - first);
    strips.forEach(strip => {
      const seen = looks[model][at][strip.head];
      strip.setAttribute('aria-checked', strip.head === head);
      strip.tabIndex = strip.head === head ? 0 : -1;
      [...strip.children].forEach((bar, k) => { bar.style.opacity = k ? seen[first - 1 + k] ?? 0 : before(seen); });
    });
    const [old, now] = looks.map(look => farthest(look[at][head]));
    sentence.replaceChildren(...say('attention says', {
      from: quote('pad', bare(raw(ids[at]))), head: head % heads + 1, layer: Math.floor(head / heads) + 1,
      before: old.token, p: old.p, after: now.token, q: now.p}));
  }

  const columns = Array.from({length: layers}, (_, i) => h('span', {}, plain('layer', {layer: i + 1})));
  stage.append(
    h('p', {class: 'how'}, say('how attention', {n: layers * heads, heads, layers})),
    h('div', {class: 'row'},
      radios(plain('model'), MODELS.map(name => plain(name)), model, k => { model = k; draw(); }),
      button(plain('most changed'), () => { head = mostChanged(); draw(); })),
    line, sentence, h('p', {class: 'columns', 'aria-hidden': 'true'}, columns), grid,
    h('p', {class: 'fine'}, say('caption attention')));
  draw();
};
