// The sliders: what they are called, how their values are said, and what they are set to.

const degrees = (more, less) => (value) => (value ? `${Math.abs(value)}° ${value > 0 ? more : less}` : "straight");
const share = (more, less, usual = "as is") => (value) =>
  value ? `${Math.round(Math.abs(value) * 100)} % ${value > 0 ? more : less}` : usual;
const SLIDERS = [
  { name: "turn", label: "Turn", step: 1, said: degrees("right", "left") },
  { name: "nod", label: "Nod", step: 1, said: degrees("down", "up") },
  { name: "tilt", label: "Tilt", step: 1, said: degrees("right", "left") },
  { name: "eyes", label: "Eyes", step: 0.05, said: share("wide", "shut") },
  { name: "lips", label: "Lips", step: 0.05, said: share("open", "shut") },
  { name: "smile", label: "Smile", step: 0.05, said: share("more", "less") },
  { name: "strength", label: "Strength", step: 0.05, usual: 1, moving: true, said: (value) => `${Math.round(value * 100)} %` },
];

export class Sliders {
  // ranges: least and most by name. onInput() after each change.
  constructor(fieldset, ranges, onInput) {
    this.fieldset = fieldset;
    this.rows = SLIDERS.map((slider) => this.#row(slider, ranges[slider.name], onInput));
  }

  get look() {
    return Object.fromEntries(this.rows.map(({ slider, input }) => [slider.name, input.valueAsNumber]));
  }

  get isUsual() {
    return this.rows.every(({ slider, input }) => input.valueAsNumber === (slider.usual ?? 0));
  }

  reset() {
    for (const row of this.rows) {
      row.input.value = row.slider.usual ?? 0;
      row.say();
    }
  }

  // isMoving: whether there is a clip or a camera, without which its strength means nothing.
  enable(isReady, isMoving) {
    this.fieldset.disabled = !isReady;
    for (const { slider, input, label } of this.rows) {
      input.disabled = Boolean(slider.moving && !isMoving);
      label.classList.toggle("off", isReady && input.disabled);
    }
  }

  #row(slider, [least, most], onInput) {
    const label = document.createElement("label"), name = document.createElement("span");
    const input = document.createElement("input"), output = document.createElement("output");
    label.className = "slider";
    name.textContent = slider.label;
    Object.assign(input, { type: "range", min: least, max: most, step: slider.step, id: `slider-${slider.name}`, name: slider.name });
    input.value = slider.usual ?? 0;
    output.setAttribute("aria-hidden", "true"); // the slider says it itself
    const say = () => {
      output.textContent = slider.said(input.valueAsNumber);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.oninput = () => {
      say();
      onInput();
    };
    say();
    label.append(name, input, output);
    this.fieldset.append(label);
    return { slider, input, label, say };
  }
}
