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

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".dc-window");
    if (button) play(button);
  });
  for (const name of ["timeupdate", "pause", "play", "seeked"]) {
    document.addEventListener(name, (event) => {
      if (event.target === player()) follow(event.target);
    }, true);
  }
})();
