/* Build a batch: three short texts become a table, in five steps. Each cell says what is read there and what is to come. */
'use strict';

figures.batch = async (stage, {texts}) => {
  const STEPS = ['tokenize', 'pad', 'shift', 'mask', 'answers only'], [PAD, SHIFT, MASK, ANSWERS] = [1, 2, 3, 4], MOST = 14;
  let step = SHIFT, rows = [], at = null;
  const sentence = says(), lines = texts.map(() => h('div', {class: 'lines'})), pairs = texts.map(pair => [...pair]);

  const counts = ({ids, start}, j) => !(step >= MASK && j + 1 > ids.length) && !(step >= ANSWERS && j + 1 < start);

  // Two lines of a row: kind, text and number of each cell. What is to be guessed at place j stands at place j + 1.
  function read({ids}, j) {
    if (j < ids.length) return ['read', dotted(ids[j]), ids[j]];
    return [j === ids.length && step === PAD ? 'end' : 'pad', '■', tokenizer.end];
  }
  function guess(row, j) {
    if (!counts(row, j)) return ['pad', '', '−100'];
    return j + 1 < row.ids.length ? ['counts', dotted(row.ids[j + 1]), row.ids[j + 1]] : ['end', '■', tokenizer.end];
  }

  function cell([kind, text, id], r, j, guessed) {
    const point = () => { at = [r, j, guessed]; explain(); };
    return h('button', {type: 'button', class: `cell ${kind}`, tabindex: r + j || guessed ? -1 : 0, onclick: point, onfocus: point,
      onpointerenter: event => event.pointerType === 'mouse' && point(),
      'aria-label': plain('place', {row: r + 1, place: j, text: text || id})}, text, h('small', {}, id));
  }

  function draw() {
    rows = pairs.map(([question, answer]) => {
      const asked = tokenizer.encode(question);
      return {ids: [...asked, ...tokenizer.encode(answer)].slice(0, MOST), start: asked.length};
    });
    const longest = Math.max(...rows.map(({ids}) => ids.length));
    rows.forEach((row, r) => {
      const width = step === 0 ? row.ids.length : step === PAD ? longest + 1 : longest;
      const line = (label, make, guessed) => h('div', {class: 'line'}, h('span', {class: 'tag'}, plain(label)),
        Array.from({length: width}, (_, j) => cell(make(row, j), r, j, guessed)));
      lines[r].replaceChildren(line(step < SHIFT ? 'row' : 'reads', read, false), step < SHIFT ? '' : line('to guess', guess, true));
      lines[r].style.setProperty('--columns', longest + 1);
    });
    at = null;
    explain();
  }

  function explain() {
    lines.forEach((box, r) => box.querySelectorAll('.line').forEach((line, below) => line.querySelectorAll('.cell').forEach((node, j) => {
      const pointed = at && at[0] === r && j === at[1] && (step < SHIFT || below === 1);
      node.classList.toggle('at', Boolean(pointed));
      node.classList.toggle('faint', Boolean(at) && step >= SHIFT && !pointed && !(at[0] === r && below === 0 && j <= at[1]));
    })));
    sentence.replaceChildren(...at ? about(rows[at[0]], at[1]) : say(`about ${STEPS[step]}`));
  }

  function about(row, j) {
    const {ids} = row, end = quote('end', '■');
    if (step < SHIFT) {
      if (j >= ids.length) return say(j === ids.length ? 'is end' : 'is padding', {end});
      return say('is token', {token: quote('read', raw(ids[j])), id: ids[j]});
    }
    const prefix = [quote('read', tokenizer.decode(ids.slice(0, j + 1))), ...Array.from({length: Math.max(0, j + 1 - ids.length)}, () => quote('end', '■'))];
    const next = j + 1 < ids.length ? quote(counts(row, j) ? 'counts' : 'pad', bare(raw(ids[j + 1]))) : end;
    return say(counts(row, j) ? 'should guess' : j + 1 > ids.length ? 'nothing to guess' : 'not counted', {read: prefix, next});
  }

  const table = h('div', {class: 'batch', onpointerleave: event => { if (event.pointerType === 'mouse') { at = null; explain(); } }},
    texts.map((_, r) => h('div', {class: 'group'}, h('div', {class: 'texts'}, [0, 1].map(side => h('input', {
      value: pairs[r][side].trim(), maxlength: 30, spellcheck: 'false',
      'aria-label': plain(side ? 'answer of row' : 'question of row', {row: r + 1}), oninput: event => {
        const text = event.target.value.trim();
        pairs[r][side] = side && text ? ` ${text}` : text;
        draw();
      }}))), lines[r])));
  walk(table, '.cell');
  stage.append(radios(plain('steps'), STEPS.map((name, i) => `${i + 1} ${plain(name)}`), step, now => { step = now; draw(); }),
    table, sentence, h('p', {class: 'key'}, ['read', 'counts', 'end', 'pad'].map(kind => h('span', {class: kind}, plain(`key ${kind}`)))),
    h('p', {class: 'fine'}, say('how batch')));
  draw();
};
