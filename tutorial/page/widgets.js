/* What the figures share. Texts become text nodes, whatever is in them: nothing here is ever parsed as markup. */
'use strict';

const figures = {};  // name: async function (stage, data) that fills the stage, which then takes the picture's place
const MODELS = ['base', 'tuned'];

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter(child => child != null));
  return node;
}

const button = (label, onclick, attributes = {}) => h('button', {type: 'button', onclick, ...attributes}, label);

// A text of strings.json as a list; its {places} are filled with texts or nodes. `plain` is for texts alone.
function say(key, places = {}) {
  return page.strings[key].split(/\{(\w+)\}/).map((part, i) => i % 2 ? places[part] : part).flat();
}
const plain = (key, places) => say(key, places).join('');

const frame = () => new Promise(done => {
  requestAnimationFrame(done);
  setTimeout(done, 100);  // a hidden page draws no frames
});
const number = n => n.toLocaleString(document.documentElement.lang);
const percent = p => plain('percent', {
  n: p === 0 ? 0 : p < 0.0005 ? '<0.1' : p < 0.0995 ? (100 * p).toFixed(1) : Math.round(100 * p)});

// A token for the reader: its space as a dot or left out, a line end as an arrow, the end of text as a square.
const raw = id => id === tokenizer.end ? '■' : tokenizer.decode([id]);
const visible = text => text.replace(/\n/g, '↵') || ' ';
const dotted = id => visible(raw(id).replace(/^ /, '·'));
const bare = text => visible(text.replace(/^ (?=.)/, ''));
const spaced = (text, node) => text.includes('\n') ? [node, h('br')] : text.startsWith(' ') ? [' ', node] : [node];
const quote = (kind, text) => h('q', {class: kind}, text);
const says = () => h('p', {class: 'says', 'aria-live': 'polite'});
const legend = names => h('p', {class: 'legend'}, names.map(name => h('span', {}, h('i', {class: name}), plain(name))));

// How probable something is, as a water level in the node.
function fill(node, p) {
  node.classList.add('filled');
  node.style.setProperty('--p', p);
  node.title = percent(p);
}

// One of several: buttons as a radio group. Arrow keys move. Returns the group; `group.pick(k)` chooses.
function radios(label, texts, chosen, onchange) {
  const group = h('div', {class: 'choices', role: 'radiogroup', 'aria-label': label});
  const mark = k => [...group.children].forEach((item, i) => {
    item.setAttribute('aria-checked', i === k);
    item.tabIndex = i === k ? 0 : -1;
  });
  group.pick = k => { mark(k); onchange(k); };
  group.append(...texts.map((text, k) => button(text, () => group.pick(k), {role: 'radio'})));
  walk(group, 'button', item => group.pick([...group.children].indexOf(item)));
  mark(chosen);
  return group;
}

// Arrow keys walk through the items in a box. One of them is in the tab order.
function walk(box, selector, then = () => {}) {
  box.addEventListener('keydown', event => {
    const move = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    const items = [...box.querySelectorAll(selector)], next = items[items.indexOf(document.activeElement) + move];
    if (!next || event.target.matches('input, textarea')) return;
    event.preventDefault();
    next.focus();
    then(next);
  });
}

// A text as tokens, each of them a button. `point` hears which one the reader clicks, focuses or has the mouse over.
function tokenLine(label, ids, point, hover = false) {
  const nodes = ids.map((id, k) => {
    const text = raw(id), kind = id === tokenizer.end ? ' end' : text.includes('\n') ? ' control' : '';
    return button(id === tokenizer.end ? plain('end') : bare(text), () => point(k), {
      class: `t${kind}`, onfocus: () => point(k),
      onpointerenter: event => hover && event.pointerType === 'mouse' && point(k)});
  });
  const line = h('div', {class: 'tokens', role: 'group', 'aria-label': label},
    nodes.flatMap((node, k) => spaced(raw(ids[k]), node)));
  walk(line, '.t');
  const mark = at => nodes.forEach((node, k) => {
    node.classList.toggle('at', k === at);
    node.tabIndex = k === at ? 0 : -1;
  });
  return {line, nodes, mark};
}
