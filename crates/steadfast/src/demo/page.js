
'use strict';
(() => {
  const live = document.getElementById('live');
  const trouble = document.getElementById('trouble');
  const got = document.getElementById('got');
  let last = '';

  const say = text => { trouble.textContent = text; trouble.hidden = false; live.classList.add('old'); };
  const because = answer => {
    const reason = answer.headers.get('X-Steadfast');
    return answer.status + (reason ? ' ' + reason : '');
  };

  // One request a second: a stream would hold a worker for itself.
  const draw = async () => {
    const late = setTimeout(() => say('This view waits for a free worker, like every visitor now.'), 1000);
    try {
      const answer = await fetch('/live', { cache: 'no-store', signal: AbortSignal.timeout(9000) });
      const text = await answer.text();
      clearTimeout(late);
      if (answer.ok) {
        if (text !== last) { live.innerHTML = text; last = text; }
        trouble.hidden = true;
        live.classList.remove('old');
      } else {
        say('This view was answered with ' + because(answer) + ', like every visitor now. It asks again.');
      }
    } catch {
      clearTimeout(late);
      say('Nobody answers. Has the demo been stopped?');
    }
    setTimeout(draw, document.hidden ? 5000 : 1000);
  };

  const press = async form => {
    const url = new URL(form.action);
    if ('fresh' in form.dataset) url.search = Math.random().toString(36).slice(2);
    const line = document.createElement('li');
    const asked = form.method.toUpperCase() + ' ' + url.pathname;
    line.textContent = asked + ' …';
    got.hidden = false;
    const list = got.querySelector('ol');
    list.prepend(line);
    while (list.children.length > 5) list.lastChild.remove();
    const begun = performance.now();
    const tell = (status, text, kind) => {
      const took = performance.now() - begun;
      const time = took < 1000 ? Math.round(took) + ' ms' : (took / 1000).toFixed(1) + ' s';
      const strong = document.createElement('b');
      strong.textContent = status;
      strong.className = kind;
      line.replaceChildren(asked + ' → ', strong, ' after ' + time + (text ? ': ' + text : ''));
    };
    try {
      const answer = await fetch(url, { method: form.method, headers: { 'X-Demo': '1' }, cache: 'no-store' });
      const isPlain = (answer.headers.get('Content-Type') || '').startsWith('text/plain');
      const text = isPlain ? (await answer.text()).trim() : '';
      tell(because(answer), text, answer.ok ? 'good' : 'bad');
    } catch {
      tell('no answer', '', 'bad');
    }
  };

  document.addEventListener('submit', event => {
    event.preventDefault();
    press(event.target);
  });
  setTimeout(draw, 1000);
})();
