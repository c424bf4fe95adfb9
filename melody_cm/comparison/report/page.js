"use strict";

const byId = (id) => document.getElementById(id);

// Charts: say a point's numbers when it is pointed at or focused.
const told = byId("told");
for (const point of document.querySelectorAll(".point")) {
  for (const event of ["pointerenter", "focus", "click"]) {
    point.addEventListener(event, () => { told.textContent = point.dataset.text; });
  }
}

// One player at a time.
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) {
    if (player !== event.target) player.pause();
  }
}, true);

// The listening test: two systems on one prompt, drawn by chance, named in the votes only.
function listen({ comparison, prompts }) {
  const key = `melody-cm votes ${comparison}`;
  let { session, votes } = kept() ?? anybody();
  let current = null;
  let playing = null;

  function anybody() { return { session: crypto.randomUUID?.() ?? Math.random().toString(36).slice(2), votes: [] }; }

  // The browser may refuse to keep anything: then the votes live as long as the page.
  function kept() {
    try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
  }

  function keep() {
    try { localStorage.setItem(key, JSON.stringify({ session, votes })); return true; } catch { return false; }
  }

  function say(text) { byId("test-status").textContent = text; }

  function shuffled(list) {
    const mixed = [...list];
    for (let last = mixed.length - 1; last > 0; last -= 1) {
      const other = Math.floor(Math.random() * (last + 1));
      [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
    }
    return mixed;
  }

  let queue = [];
  function next() {
    if (!queue.length) queue = shuffled(prompts);
    const drawn = queue.pop();
    if (!drawn) { say("There are no two systems to compare."); current = null; return; }
    const [a, ...others] = shuffled(drawn.clips);
    const b = others.find((clip) => clip.system !== a.system) ?? others[0];
    current = { prompt: drawn.prompt, a, b, heard: new Set() };
    byId("test-prompt").textContent = drawn.prompt;
  }

  function stop() {
    if (playing) { playing.pause(); playing.currentTime = 0; }
    playing = null;
    for (const side of ["a", "b"]) byId(`play-${side}`).setAttribute("aria-pressed", "false");
  }

  function play(side) {
    if (!current) return;
    stop();
    // A player of its own: the one above would show which system it is.
    playing = new Audio(byId(current[side].id).src);
    current.heard.add(side);
    byId(`play-${side}`).setAttribute("aria-pressed", "true");
    playing.addEventListener("ended", stop);
    playing.play().catch(() => {});  // Refused where it is stopped before it began.
  }

  function vote(choice) {
    if (!current) return;
    if (current.heard.size < 2) { say("Listen to both first."); return; }
    stop();
    votes.push({ prompt: current.prompt, a: current.a.name, b: current.b.name, vote: choice, time: new Date().toISOString() });
    next();
    say(keep() ? `${votes.length} vote(s) kept. The next pair is ready.` : `${votes.length} vote(s). This browser keeps nothing: save them before you leave.`);
  }

  function save() {
    const text = JSON.stringify({ schema_version: 1, comparison, report: document.title, session, votes }, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `votes_${session.slice(0, 8)}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function anew() {
    if (votes.length && !confirm(`Forget ${votes.length} vote(s) of this listener? Save them first if they count.`)) return;
    ({ session, votes } = anybody());
    keep();
    say("No votes yet.");
  }

  const actions = {
    "play-a": () => play("a"), "play-b": () => play("b"), stop,
    "vote-a": () => vote("a"), "vote-b": () => vote("b"), "vote-none": () => vote("none"), save, anew,
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
  const keys = { a: "play-a", b: "play-b", " ": "stop", 1: "vote-a", 2: "vote-b", 0: "vote-none" };
  byId("test").addEventListener("keydown", (event) => {
    const id = keys[event.key.toLowerCase()];
    // The space bar presses a focused button, as everywhere.
    if (!id || event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    actions[id]();
  });
  if (votes.length) say(`${votes.length} vote(s) from before are kept.`);
  next();
}

// A page without clips has nothing to listen to.
if (byId("pairs")) listen(JSON.parse(byId("pairs").textContent));
