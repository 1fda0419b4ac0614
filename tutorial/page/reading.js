/* The page itself: contents that follow the reading, folding, copying, notes, and figures that come to life. */
'use strict';

// A figure gets its picture's place when the reader comes near it; until then, without scripts and on paper, the picture
// stands.
async function enliven(figure) {
  const name = figure.dataset.figure, stage = h('div', {class: `stage ${name}`});
  try {
    await figures[name](stage, JSON.parse(figure.querySelector('script').textContent));
    figure.prepend(stage);
    figure.classList.add('live');
  } catch (error) {
    figure.append(h('p', {class: 'fine', role: 'status'}, error.message));
  }
}

const near = new IntersectionObserver(seen => seen.filter(entry => entry.isIntersecting).forEach(({target}) => {
  near.unobserve(target);
  enliven(target);
}), {rootMargin: '600px'});
const OF_THE_MINIATURE = ['token', 'attention'];  // after another model's run, its pictures stay
const comesAlive = ({dataset}) => !page.other || !OF_THE_MINIATURE.includes(dataset.figure);
[...document.querySelectorAll('figure[data-figure]')].filter(comesAlive).forEach(figure => near.observe(figure));

document.querySelectorAll('.in').forEach(({parentNode, textContent}) =>  // a line that is too long goes on with its indent
  parentNode.closest('.l').style.setProperty('--indent', textContent.length));

if (navigator.clipboard) document.querySelectorAll('.code').forEach(cell => {
  const copy = button(plain('copy'), async () => {
    await navigator.clipboard.writeText(cell.querySelector('pre').textContent);
    copy.textContent = plain('copied');
    setTimeout(() => { copy.textContent = plain('copy'); }, 1500);
  }, {class: 'copy'});
  cell.prepend(copy);
});

// Two buttons of the contents, which say what they will do. `change` returns whether there is now something to undo.
function toggle(name, undo, change) {
  document.querySelectorAll(`.${name}`).forEach((node, _, both) => {
    node.hidden = false;
    node.addEventListener('click', () => {
      const changed = change();
      both.forEach(each => { each.textContent = plain(changed ? undo : name); });
    });
  });
}
const folds = [...document.querySelectorAll('details.fold')];
toggle('unfold', 'fold', () => {
  const open = folds.some(fold => !fold.open);
  folds.forEach(fold => { fold.open = open; });
  return open;
});
toggle('prose', 'with code', () => document.body.classList.toggle('without-code'));

document.querySelectorAll('.term').forEach(term => {  // a glossary note stays on the screen
  const note = term.querySelector('.note');
  const place = () => {
    note.style.left = '';
    const over = note.getBoundingClientRect().right + 12 - document.documentElement.clientWidth;
    if (over > 0) note.style.left = `${-over}px`;
  };
  term.addEventListener('pointerenter', place);
  term.addEventListener('focus', place);
});
addEventListener('keydown', event => {  // and goes away
  if (event.key === 'Escape') document.activeElement.closest('.term')?.blur();
});

const menu = document.querySelector('.menu'), places = [...document.querySelectorAll('main h1, main h2')];
const links = [...document.querySelectorAll('.contents a')];
function follow() {
  const now = places.filter(place => place.getBoundingClientRect().top < 160).pop() ?? places[0];
  links.forEach(link => {
    const hash = link.hash.slice(1);
    if (hash === now.id || decodeURIComponent(hash) === now.id) link.setAttribute('aria-current', 'location');
    else link.removeAttribute('aria-current');
  });
  menu.querySelector('.now').textContent = links.find(link => link.hasAttribute('aria-current'))?.textContent ?? '';
}
addEventListener('scroll', follow, {passive: true});
menu.addEventListener('click', event => { if (event.target.closest('a')) menu.open = false; });
requestAnimationFrame(follow);  // when the page is laid out anyway, which takes a while
