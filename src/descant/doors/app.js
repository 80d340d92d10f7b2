"use strict";
(() => {
  let stopAt = null;
  const player = () => document.querySelector("#dc-sound audio");
  const find = (selector) => document.querySelector(selector);

  function play(button) {
    const audio = player();
    if (!audio) return;
    audio.currentTime = Number(button.dataset.start);
    stopAt = Number(button.dataset.end);
    audio.play().catch(() => {});  // another click may have stopped it
  }

  function follow(audio) {
    const track = find(".dc-track");
    if (!track) return;
    const at = audio.currentTime;
    if (stopAt !== null && at >= stopAt) {
      stopAt = null;
      audio.pause();
    }
    const head = find(".dc-playhead");
    head.style.left = 100 * Math.min(1, at / Number(track.dataset.duration)) + "%";
    head.classList.toggle("dc-on", at > 0);
    for (const one of document.querySelectorAll(".dc-window")) {
      const inside = !audio.paused && at >= Number(one.dataset.start) && at < Number(one.dataset.end);
      one.classList.toggle("dc-playing", inside);
    }
  }

  function mark(start, end, share, outstanding) {
    const duration = Number(find(".dc-track").dataset.duration);
    const one = document.createElement("i");
    one.style.left = 100 * start / duration + "%";
    one.style.width = 100 * (end - start) / duration + "%";
    one.style.setProperty("--dc-share", share);
    one.classList.toggle("dc-outstanding", Boolean(outstanding));
    return one;
  }

  // Draw what one answer rests on over the track; without one, nothing.
  function showEvidence(button) {
    const place = find(".dc-evidence");
    if (!place) return;
    const turn = button && button.closest(".dc-turn");
    place.replaceChildren(...(button ? JSON.parse(button.dataset.evidence) : []).map((one) => mark(...one)));
    for (const one of document.querySelectorAll(".dc-turn")) one.classList.toggle("dc-shown", one === turn);
    const legend = find(".dc-shows");
    legend.hidden = !turn;
    legend.querySelector("span").textContent = turn ? turn.querySelector(".dc-question").textContent : "";
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".dc-window, .dc-show");
    if (!button) return;
    if (button.matches(".dc-window")) play(button);
    else showEvidence(button);
  });
  let newest = "";  // what the last turn rests on, as far as it was drawn; nodes are used again for other turns
  new MutationObserver(() => {
    const turns = document.querySelectorAll(".dc-turn");
    const button = turns.length ? turns[0].querySelector(".dc-show") : null;
    const found = button ? turns.length + button.dataset.evidence : "";
    if (found === newest) return;
    newest = found;
    showEvidence(button);
  }).observe(document, {childList: true, subtree: true, characterData: true, attributeFilter: ["data-evidence"]});
  for (const name of ["timeupdate", "pause", "play", "seeked"]) {
    document.addEventListener(name, (event) => {
      if (event.target === player()) follow(event.target);
    }, true);
  }
})();
