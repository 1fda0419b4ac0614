/* Ask both models: side by side, token by token, to a visible end. */
'use strict';

figures.ask = async (stage, {questions}) => {
  const known = new Set(page.words.split(' ')), WORD = /([\p{L}\p{N}]+)/u;
  const stranger = word => word.split(/(\d+)/).some(part => part && !known.has(part));
  const SHOWN = 40;  // tokens of an answer
  let turn = 0;
  const opened = h('div', {class: 'token'});  // the answer's tokens, when the reader wants them

  // A text area lies over a mirror of its text, which grows with it and underlines words that the models never read. It
  // takes more than a model can read, which the model then says.
  function field(key) {
    const mirror = h('span', {class: 'mirror', 'aria-hidden': 'true'});
    const area = h('textarea', {rows: 1, maxlength: 2000, spellcheck: 'false', enterkeyhint: 'go', oninput: edited,
      placeholder: plain(`${key} hint`), onkeydown: event => {
        if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        ask();
      }});
    const node = h('label', {class: 'field'}, h('span', {}, plain(key)), h('span', {class: 'grow'}, mirror, area));
    return {area, mirror, node};
  }
  const instruction = field('instruction'), input = field('input'), fields = [instruction, input];
  const warning = h('p', {class: 'strangers', role: 'status'}), state = h('p', {class: 'fine'}, say('ask state'));
  const chips = h('div', {class: 'choices', role: 'group', 'aria-label': plain('examples')}, questions.map(q =>
    button(page.strings[`task ${q.task}`] ?? q.task, () => { set(q); ask(); })));

  function set(question) {
    instruction.area.value = question.instruction;
    input.area.value = question.input;
    edited();
  }

  function edited() {
    const strangers = new Set();
    for (const {area, mirror} of fields) {
      mirror.replaceChildren(...area.value.split(WORD).map((part, k) => {
        if (k % 2 === 0 || !stranger(part)) return part;
        strangers.add(part);
        return h('u', {}, part);
      }), '\u200b');
    }
    const list = [...strangers].slice(0, 6).flatMap((word, k) => [k ? ', ' : '', h('u', {}, word)]);
    warning.replaceChildren(...strangers.size ? say('strangers', {words: list}) : []);
    questions.forEach((q, k) => chips.children[k].setAttribute('aria-pressed',
      q.instruction === instruction.area.value && q.input === input.area.value));
  }

  const columns = MODELS.map(name => {
    const said = h('p', {class: 'said', 'aria-live': 'polite'});
    return {name, said, node: h('section', {class: 'answer', 'aria-label': plain(`${name} answer`)},
      h('p', {}, h('strong', {}, plain(name)), ' ', plain(`${name} note`)), said)};
  });

  async function run({name, said}, ids, mine) {
    const answer = await (await load(name)).read(ids), start = performance.now();
    if (mine === turn) said.replaceChildren();
    while (mine === turn && !answer.done && answer.ids.length < SHOWN) {
      const id = answer.next();
      if (!answer.ended) said.append(h('span', {class: 'new'}, tokenizer.decode([id])));
      if (answer.ids.length % 2 === 0) await frame();  // two tokens a frame: fast, and one can still see them come
    }
    if (mine === turn) said.append(...answer.ended
      ? [h('wbr'), h('span', {class: 'stop', title: plain('stopped')}, plain('stop'))]
      : [h('span', {class: 'fine'}, plain('cut', {n: answer.ids.length}))]);
    return {answer, start, end: performance.now()};
  }

  async function ask(byReader = true) {
    const mine = ++turn, texts = fields.map(({area}) => area.value.trim()), empty = !texts[0];
    opened.replaceChildren();
    columns.forEach(({said}) => {
      said.replaceChildren(...empty ? [] : [h('span', {class: 'fine late'}, plain('loading'))]);
      said.setAttribute('aria-busy', !empty);
    });
    if (empty) return instruction.area.focus();
    if (byReader && matchMedia('(max-width: 640px)').matches) {  // the keyboard goes, the answers come into view
      fields.forEach(({area}) => area.blur());
      columns[0].node.scrollIntoView();
    }
    try {
      const prompt = promptOf(...texts), ids = tokenizer.encode(prompt);
      const runs = await Promise.all(columns.map(column => run(column, ids, mine)));
      if (mine !== turn) return;
      columns[1].said.append(button(plain('what else'), async () => {
        opened.replaceChildren();
        await figures.token(opened, {prompt, ids: runs[1].answer.ids});
        opened.scrollIntoView({block: 'nearest'});
      }));
      underline(...runs.map(({answer}) => tokenizer.decode(answer.ids)));
      const time = Math.max(...runs.map(({end}) => end)) - Math.min(...runs.map(({start}) => start));
      const tokens = runs.reduce((sum, {answer}) => sum + answer.ids.length + answer.ended, 0);
      state.replaceChildren(...say('ask state'), ...say('ask ran', {
        n: Math.round(1000 * tokens / time), tokens: number(runs[0].answer.model.ids.length)}));
    } catch (error) {
      if (mine === turn) columns.forEach(({said}) => said.replaceChildren(h('span', {class: 'fine'}, error.message)));
    }
    if (mine === turn) columns.forEach(({said}) => said.setAttribute('aria-busy', false));
  }

  // Often the base model writes the right answer among others: it knew.
  function underline(before, after) {
    const start = before.indexOf(after.trim()), end = start + after.trim().length, {said} = columns[0];
    if (start < 0 || before.trim() === after.trim() || !after.trim()) return;
    let at = 0;
    for (const token of said.querySelectorAll('.new')) {
      token.classList.toggle('inside', at >= start && at < end);
      at += token.textContent.length;
    }
    said.append(h('span', {class: 'fine known'}, plain('it knew')));
  }

  const more = [...document.querySelectorAll('figure[id^=try]')].filter(comesAlive).flatMap(({id}) =>
    [' · ', h('a', {href: `#${id}`}, plain(id))]).slice(1);
  stage.append(
    h('form', {autocomplete: 'off', onsubmit: event => { event.preventDefault(); ask(); }},
      instruction.node, input.node, h('button', {class: 'go'}, plain('ask'))),
    warning, chips, h('p', {class: 'fine'}, plain('it knows some')),
    h('div', {class: 'pair'}, columns.map(column => column.node)), opened, state,
    page.other ? h('p', {class: 'fine'}, plain('other')) : '',
    more.length ? h('p', {class: 'fine'}, h('strong', {}, plain('more')), ' ', more) : '');
  set(questions[0]);
  ask(false);
};
