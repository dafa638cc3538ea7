// The time that the page shows: the video's own, or, where there is no video to see, one that we keep.

export function makeClock(video, button) {
  let isOurs = false, first = 0, last = 0, at = 0, since = null; // `since`: when ours was at `at`; null if it stands

  const clock = {
    // Begin to play what lies between two times in seconds.
    begin(start, end, hasVideo) {
      isOurs = !hasVideo;
      [first, last, at, since] = [start, end, start, performance.now()];
      button.hidden = hasVideo;
      button.textContent = "Pause";
      if (hasVideo) video.play().catch(() => {});
    },
    now() {
      if (!isOurs) return video.currentTime;
      const passed = since === null ? 0 : (performance.now() - since) / 1000;
      return first + ((at - first + passed) % Math.max(last - first, 0.001));
    },
    // Go to a time, and stay there.
    seek(time) {
      const wanted = Math.min(Math.max(time, first), last);
      if (isOurs) {
        [at, since] = [Math.min(wanted, last - 0.001), null];
        button.textContent = "Play";
      } else {
        video.pause();
        video.currentTime = wanted;
      }
    },
  };

  button.addEventListener("click", () => {
    [at, since] = [clock.now(), since === null ? performance.now() : null];
    button.textContent = since === null ? "Play" : "Pause";
  });
  return clock;
}
