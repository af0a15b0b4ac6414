// What people do at pages, by the mouse or by the keyboard alone: the same steps for both.
import { assert, same } from "./people.mjs";

// The forms that people have the pages in. Each scenario is run in every one.
export const ways = {
  mouse: { options: { viewport: { width: 1440, height: 900 } } },
  keyboard: { keyboard: true, options: { viewport: { width: 1440, height: 900 }, colorScheme: "dark" } },
  "small and dark": { options: { viewport: { width: 320, height: 640 }, colorScheme: "dark" } },
  "without script": { options: { javaScriptEnabled: false, viewport: { width: 320, height: 640 } } },
  "without script, by keyboard": { keyboard: true, options: { javaScriptEnabled: false } },
  // Back and forth, and a reload, after each press of a button: nothing is done twice.
  "with reloads": { reloads: true, options: {} },
};

// What has the focus: its words, and whether the focus is seen.
const focused = (page) =>
  page.evaluate(() => {
    const element = document.activeElement;
    const clean = (text) => (text ?? "").replace(/\s+/g, " ").trim();
    const label = element.labels?.[0] ?? element.closest("label");
    const legend = element.closest("fieldset")?.querySelector("legend");
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    return {
      kind: `${element.tagName.toLowerCase()}${element.type ? `:${element.type}` : ""}`,
      words: clean(element.labels?.length ? label.textContent : element.textContent),
      legend: clean(legend?.textContent),
      option: element.tagName === "SELECT" ? clean(element.selectedOptions[0]?.textContent) : "",
      checked: Boolean(element.checked),
      seen: box.width > 0 && style.outlineStyle !== "none",
    };
  });

const tab_until = async (page, what, matches) => {
  for (let presses = 0; presses < 250; presses += 1) {
    await page.keyboard.press("Tab");
    const found = await focused(page);
    if (!matches(found)) continue;
    assert(found.seen, `the focus on ${what} is not seen`);
    return found;
  }
  throw new Error(`the keyboard does not reach ${what}`);
};

// A person's hands at a page. `landed` runs after each press of a button.
export const hands = (page, way, landed = async () => {}) => {
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
      await (text ? page.keyboard.type(text) : page.keyboard.press("Delete"));
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
      found = await focused(page);
      for (let presses = 0; presses < 20 && found.option !== option; presses += 1) {
        await page.keyboard.press("ArrowDown");
        found = await focused(page);
      }
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
    press: async (name, then) => {
      await chosen.press(name);
      if (then) await page.getByText(then).first().waitFor();
      await page.waitForLoadState();
      await landed(name);
    },
    sees: async (text) => page.getByText(text).first().waitFor(),
  };
};
