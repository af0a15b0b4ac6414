// What people do at pages, by the mouse or by the keyboard alone: the same steps for both.
import { readFileSync } from "node:fs";
import { assert, same, timed } from "./people.mjs";

// The forms that people have the pages in. Each scenario is run in every one: by mouse and
// by keyboard, with script and without, small and large, light and dark; customers also on
// an insecure origin, where operators are let nowhere.
const all_ways = {
  mouse: { options: { viewport: { width: 1440, height: 900 } } },
  keyboard: { keyboard: true, options: { viewport: { width: 320, height: 640 }, colorScheme: "dark" } },
  "without script": { insecure: true, options: { javaScriptEnabled: false, viewport: { width: 320, height: 640 }, colorScheme: "dark" } },
  "without script, by keyboard": { keyboard: true, options: { javaScriptEnabled: false, viewport: { width: 1440, height: 900 } } },
  // Back and forth, and a reload, after each press of a button: nothing is done twice.
  "with reloads": { reloads: true, insecure: true, options: {} },
};
// Those whose name holds what was asked for, or none of it behind a `!`.
const asked = process.argv[3] ?? "";
const is_asked = (name) => (asked.startsWith("!") ? !name.includes(asked.slice(1)) : name.includes(asked));
export const ways = Object.fromEntries(Object.entries(all_ways).filter(([name]) => is_asked(name)));

// What stands where the keyboard can go, in words; `only` is an element, or null for all.
const describe = (only) => {
  const clean = (text) => (text ?? "").replace(/\s+/g, " ").trim();
  const told = (element) => {
    const label = element.labels?.[0] ?? element.closest("label");
    const legend = element.closest("fieldset")?.querySelector("legend");
    return {
      kind: `${element.tagName.toLowerCase()}${element.type ? `:${element.type}` : ""}`,
      words: clean(element.labels?.length ? label.textContent : element.textContent),
      legend: clean(legend?.textContent),
      options: element.tagName === "SELECT" ? [...element.options].map((option) => clean(option.textContent)) : [],
      option: element.tagName === "SELECT" ? clean(element.selectedOptions[0]?.textContent) : "",
      checked: Boolean(element.checked),
    };
  };
  const focus = document.activeElement;
  if (only) {
    const box = focus.getBoundingClientRect();
    const seen = box.width > 0 && getComputedStyle(focus).outlineStyle !== "none";
    return { ...told(focus), seen };
  }
  // The stops behind the focus, and then those before it, around.
  const stops = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
    .filter((element) => !element.disabled && element.checkVisibility())
    .filter((element, _, every) => {
      if (element.type !== "radio" || element === focus) return true;
      const group = every.filter((of) => of.type === "radio" && of.name === element.name && of.form === element.form);
      if (group.includes(focus)) return false;
      return element === (group.find((of) => of.checked) ?? group[0]);
    });
  const is_behind = (element) => focus === document.body || focus.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING;
  const others = stops.filter((element) => element !== focus);
  return [...others.filter(is_behind), ...others.filter((element) => !is_behind(element))].map(told);
};
const focused = (page) => page.evaluate(describe, true);
const stops_ahead = (page) => page.evaluate(describe, false);

// Presses a key so many times, without a look between.
const sessions = new WeakMap();
const press_often = async (page, key, code, times) => {
  if (!sessions.has(page)) sessions.set(page, await page.context().newCDPSession(page));
  const session = sessions.get(page);
  const event = { key, code: key, windowsVirtualKeyCode: code };
  const sent = [];
  for (let press = 0; press < times; press += 1) {
    sent.push(session.send("Input.dispatchKeyEvent", { ...event, type: "rawKeyDown" }));
    sent.push(session.send("Input.dispatchKeyEvent", { ...event, type: "keyUp" }));
  }
  await Promise.all(sent);
};

// Goes on by the keyboard until the focus is on what is looked for. How many presses that
// takes is guessed; where the guess is wrong, each further press is followed by a look.
const tab_until = (page, what, matches) =>
  timed("ways of the keyboard", async () => {
    const guess = (await stops_ahead(page)).findIndex(matches);
    await press_often(page, "Tab", 9, guess < 0 ? 1 : guess + 1);
    for (let presses = 0; presses < 250; presses += 1) {
      const found = await focused(page);
      if (matches(found)) {
        assert(found.seen, `the focus on ${what} is not seen`);
        return found;
      }
      await timed("single steps of the keyboard", () => page.keyboard.press("Tab"));
    }
    throw new Error(`the keyboard does not reach ${what}`);
  });

// A person's hands at a page.
export const hands = (page, way) => {
  const is = (words) => (found) => found.words === words;
  const starts = (words) => (found) => found.words.startsWith(words);
  const by_keyboard = {
    press: async (name) => {
      await tab_until(page, name, (found) => is(name)(found) && /^(a|button)/.test(found.kind));
      await page.keyboard.press("Enter");
    },
    fill: async (label, text) => {
      await tab_until(page, label, (found) => is(label)(found) && /^(input|textarea)/.test(found.kind));
      await page.keyboard.press("Control+A");
      // What is long is pasted.
      if (text.length > 30) await page.keyboard.insertText(text);
      else await (text ? page.keyboard.type(text) : page.keyboard.press("Delete"));
    },
    // A radio: the keyboard reaches the group, and arrows choose.
    choose: async (label) => {
      let found = await tab_until(page, label, (found) => found.kind === "input:radio");
      for (let presses = 0; presses < 12 && !starts(label)(found); presses += 1) {
        await page.keyboard.press("ArrowDown");
        found = await focused(page);
      }
      assert(starts(label)(found), `the keyboard does not choose ${label}`);
      if (!found.checked) await page.keyboard.press("Space");
    },
    check: async (label) => {
      const found = await tab_until(page, label, (found) => starts(label)(found) && found.kind === "input:checkbox");
      if (!found.checked) await page.keyboard.press("Space");
    },
    select: async (label, option) => {
      let found = await tab_until(page, label, (found) => is(label)(found) && found.kind.startsWith("select"));
      await page.keyboard.press("Home");
      await press_often(page, "ArrowDown", 40, Math.max(found.options.indexOf(option), 0));
      found = await focused(page);
      same(found.option, option, `the choice of ${label}`);
    },
  };
  const by_mouse = {
    press: async (name) => {
      const named = { name, exact: true };
      await page.getByRole("button", named).or(page.getByRole("link", named)).first().click();
    },
    fill: async (label, text) => page.getByLabel(label, { exact: true }).first().fill(text),
    choose: async (label) => page.getByRole("radio", { name: label }).first().check(),
    check: async (label) => page.getByRole("checkbox", { name: label }).first().check(),
    select: async (label, option) => page.getByLabel(label, { exact: true }).first().selectOption({ label: option }),
  };
  const chosen = way.keyboard ? by_keyboard : by_mouse;
  // Fields are filled in by the order in which they stand: the keyboard goes on from where
  // it is, and around.
  return {
    ...chosen,
    press: (name, then) =>
      timed("presses", async () => {
        await chosen.press(name);
        if (then) await page.getByText(then).first().waitFor();
        await page.waitForLoadState();
      }),
    // A press that ends in a file: what it holds.
    downloads: async (name, wanted) => {
      const [file] = await Promise.all([page.waitForEvent("download"), chosen.press(name)]);
      same(file.suggestedFilename(), wanted, "the file");
      return readFileSync(await file.path());
    },
    sees: async (text) => page.getByText(text).first().waitFor(),
  };
};
