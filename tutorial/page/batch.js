/* Build a batch: short texts become a table, in five steps. A cell says what is read there, and what comes next. */
'use strict';

figures.batch = async (stage, {texts}) => {
  const STEPS = ['tokenize', 'pad', 'shift', 'mask', 'answers only'], [PAD, SHIFT, MASK, ANSWERS] = [1, 2, 3, 4];
  const MOST = 14;  // tokens in a row
  let step = 0, rows = [], at = null;
  const sentence = says(), lines = texts.map(() => h('div', {class: 'lines'})), pairs = texts.map(pair => [...pair]);

  const counts = ({ids, start}, j) => !(step >= MASK && j + 1 > ids.length) && !(step >= ANSWERS && j + 1 < start);

  // Two lines of a row: kind, text and number of each cell. What is to be guessed at place j stands at place j + 1.
  function read({ids}, j) {
    if (j < ids.length) return ['read', dotted(ids[j]), ids[j]];
    return [j === ids.length && step === PAD ? 'end' : 'pad', '■', tokenizer.end];
  }
  function guess(row, j) {
    if (!counts(row, j)) return ['pad', '', '-100'];
    return j + 1 < row.ids.length ? ['counts', dotted(row.ids[j + 1]), row.ids[j + 1]] : ['end', '■', tokenizer.end];
  }

  function cell([kind, text, id], r, j, guessed) {
    const point = () => { at = node.place; explain(); };
    const node = button(text, point, {
      class: `cell ${kind} ${text.length > 6 ? 'long' : ''}`, tabindex: r + j || guessed ? -1 : 0, onfocus: point,
      onpointerenter: event => event.pointerType === 'mouse' && point(),
      'aria-label': plain('place', {row: r + 1, place: j, text: text || id})});
    node.place = {r, j, guessed};
    node.append(h('small', {}, id));
    return node;
  }

  function draw() {
    rows = pairs.map(([question, answer]) => {
      const asked = tokenizer.encode(question), ids = [...asked, ...tokenizer.encode(answer)];
      return {ids: ids.slice(0, MOST), start: asked.length, n: ids.length};
    });
    const longest = Math.max(...rows.map(({ids}) => ids.length));
    rows.forEach((row, r) => {
      const width = step === 0 ? row.ids.length : step === PAD ? longest + 1 : longest;
      const line = (label, make, guessed) => h('div', {class: 'line'}, h('span', {class: 'tag'}, plain(label)),
        Array.from({length: width}, (_, j) => cell(make(row, j), r, j, guessed)));
      lines[r].replaceChildren(...step < SHIFT ? [line('row', read, false)]
        : [line('reads', read, false), line('to guess', guess, true)]);
      lines[r].style.setProperty('--columns', longest + 1);
    });
    at = null;
    explain();
  }

  function explain() {
    table.querySelectorAll('.cell').forEach(node => {
      const {r, j, guessed} = node.place, here = at !== null && at.r === r;
      const pointed = here && at.j === j && (step < SHIFT || guessed), read = here && !guessed && j <= at.j;
      node.classList.toggle('at', pointed);
      node.classList.toggle('faint', at !== null && step >= SHIFT && !pointed && !read);
    });
    const cut = rows.findIndex(({n}) => n > MOST);
    sentence.replaceChildren(...cut >= 0
      ? [h('span', {class: 'strangers'}, say('too many', {row: cut + 1, n: rows[cut].n, most: MOST}))]
      : at ? about(rows[at.r], at.j) : say(`about ${STEPS[step]}`));
  }

  function about(row, j) {
    const {ids} = row, end = quote('end', '■');
    if (step < SHIFT) {
      if (j >= ids.length) return say(j === ids.length ? 'is end' : 'is padding', {end});
      return say('is token', {token: quote('read', raw(ids[j])), id: ids[j]});
    }
    const padding = Array.from({length: Math.max(0, j + 1 - ids.length)}, () => quote('end', '■'));
    const places = {read: [quote('read', tokenizer.decode(ids.slice(0, j + 1))), ...padding], next: end};
    if (j + 1 < ids.length) places.next = quote(counts(row, j) ? 'counts' : 'pad', bare(raw(ids[j + 1])));
    return say(counts(row, j) ? 'should guess' : j + 1 > ids.length ? 'nothing to guess' : 'not counted', places);
  }

  const field = (r, side) => h('input', {
    value: pairs[r][side].trim(), maxlength: 30, spellcheck: 'false',
    'aria-label': plain(side ? 'answer of row' : 'question of row', {row: r + 1}), oninput: event => {
      const text = event.target.value.trim();
      pairs[r][side] = side && text ? ` ${text}` : text;
      draw();
    }});
  const leave = event => { if (event.pointerType === 'mouse') { at = null; explain(); } };
  const table = h('div', {class: 'table', onpointerleave: leave}, texts.map((_, r) =>
    h('div', {class: 'group'}, h('div', {class: 'texts'}, field(r, 0), field(r, 1)), lines[r])));
  walk(table, '.cell');
  const names = STEPS.map((name, i) => `${i + 1} ${plain(name)}`), kinds = ['read', 'counts', 'end', 'pad'];
  stage.append(h('p', {class: 'how'}, say('how batch')),
    radios(plain('steps'), names, step, now => { step = now; draw(); }), table, sentence,
    h('p', {class: 'key'}, kinds.map(kind => h('span', {class: kind}, plain(`key ${kind}`)))),
    h('p', {class: 'fine'}, say('caption batch')));
  draw();
};
