// Teaching: examples of actions go to the server, which then answers by them and gives their model away.

// `call` asks the API, `record` records until its button is pressed again, and hands the clip to a function. `onChange`
// is told whether the clip that is shown is to be answered again.
export function makeTeaching(panel, call, record, onChange) {
  const part = (name) => panel.querySelector(name);
  const label = part(".label"), files = part(".examples"), lesson = part(".lesson"), use = part(".use");
  let ready = false, names = [], waiting = Promise.resolve(); // one example after the other

  function say(text, isBad = false) {
    lesson.textContent = text;
    lesson.classList.toggle("bad", isBad);
  }

  function show({ classes, most, ready: isReady }) {
    panel.hidden = most === 0;
    names = Object.keys(classes);
    const entries = Object.entries(classes).map(([name, count]) => {
      const entry = document.createElement("li"), forget = document.createElement("button");
      forget.type = "button";
      forget.textContent = "×";
      forget.setAttribute("aria-label", `forget ${name}`);
      forget.addEventListener("click", () => ask(`taught?label=${encodeURIComponent(name)}`, { method: "DELETE" }));
      entry.append(`${name}: ${count} ${count === 1 ? "example" : "examples"} `, forget);
      return entry;
    });
    part(".taught").replaceChildren(...entries);
    part(".forget").disabled = !entries.length;
    part(".download").disabled = use.disabled = !isReady;
    if (isReady !== ready) use.checked = isReady; // from now on they are what one wants to be asked
    ready = isReady;
    onChange(false);
  }

  async function ask(path, options) {
    try {
      show(await call(path, options));
      return true;
    } catch (error) {
      say(error.message, true);
      return false;
    }
  }

  function teach(name, clips) {
    clips.forEach((clip, number) => {
      waiting = waiting.then(async () => {
        say(`${name}: learning from ${clip.name}, ${number + 1} of ${clips.length} …`);
        const form = new FormData();
        form.append("file", clip, clip.name);
        form.append("label", name);
        if (await ask("taught", { method: "POST", body: form })) say(`${name}: learned from ${clip.name}`);
      });
    });
  }

  // The action's name; says so and returns null where there is none.
  function named() {
    if (label.reportValidity() && label.value.trim()) return label.value.trim();
    say("name the action first", true);
    return null;
  }

  part("form").addEventListener("submit", (event) => event.preventDefault());
  part(".record-example").addEventListener("click", (event) => {
    const name = named();
    if (name !== null) record(event.target, (clip) => teach(name, [clip]));
  });
  part(".add-examples").addEventListener("click", () => named() !== null && files.click());
  files.addEventListener("change", () => {
    const name = named();
    if (name !== null) teach(name, [...files.files]);
    files.value = "";
  });
  use.addEventListener("change", () => onChange(true));
  part(".forget").addEventListener("click", async () => {
    if (await ask("taught", { method: "DELETE" })) say("all is forgotten");
  });
  part(".download").addEventListener("click", async () => {
    try {
      const address = URL.createObjectURL(await call("taught/model", {}, (response) => response.blob()));
      const link = document.createElement("a");
      [link.href, link.download] = [address, "taught.zip"];
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      say("unzipped, it is a folder that hhmnet predict, live and serve take");
    } catch (error) {
      say(error.message, true);
    }
  });

  return {
    // See what is taught already, perhaps by others.
    begin: () => ask("taught", {}),
    // Whether clips are to be answered by what is taught.
    get used() {
      return ready && use.checked;
    },
    get names() {
      return names;
    },
  };
}
