// All that a customer does, in every way that people do it.
import { base, go, insecure, log_in, same, test, use } from "./people.mjs";
import { hands, ways } from "./hands.mjs";

const token_on = (page) => page.getByLabel("API key", { exact: true }).inputValue();

for (const [name, way] of Object.entries(ways)) {
  await test(`a customer, ${name}: create, rename, rotate, follow the steps, revoke`, way.options, async (page) => {
    const origin = way.insecure ? insecure : base;
    await log_in(page, 0, origin);
    await page.goto(`${origin}/ai/keys`);
    const keys = () => page.evaluate((list) => fetch(list).then((answer) => answer.text()), `${origin}/ai/keys?show=all`).then((text) => text.match(/\/ai\/keys\/keys\/\w{10}"/g)?.length ?? 0);
    const landed = async () => {
      if (!way.reloads) return;
      const before = await keys();
      const at = page.url();
      await page.reload();
      // A page that came of a form is not shown again: the browser says so.
      await page.goBack().catch(() => page.waitForLoadState());
      await go(page, at);
      same(await keys(), before, "keys after a reload, back and forth");
    };
    same(await page.evaluate(() => isSecureContext), !way.insecure, "a secure context");
    const own = hands(page, way);
    await own.press("Create a key", "The key is shown once");
    await own.fill("Name", `of ${name}`);
    await own.choose("Read-only");
    await own.select("Ends after", "90 days");
    await own.press("Create the key", "Copy it now");
    const first = await token_on(page);
    // A button that would do nothing is not there.
    const scripted = way.options.javaScriptEnabled !== false;
    same(await page.getByRole("button", { name: "Copy" }).count(), scripted ? 1 : 0, "buttons to copy");
    same(await use(first), 200, "the key");
    const key = await page.getByRole("link", { name: "I have stored it" }).getAttribute("href");
    if (way.reloads) {
      await landed();
      await page.goto(new URL(key, origin).href);
    } else {
      await own.press("I have stored it", "What happened");
    }
    await own.press("Rename and describe", "Name");
    await own.fill("Name", `renamed, ${name}`);
    await own.fill("Description", "for the tests");
    await own.press("Save", "Saved.");
    await landed();
    await own.press("Rotate", "takes the place of");
    await own.choose("works for 1 hour more");
    await own.press("Create the new key", "Copy it now");
    const second = await token_on(page);
    same(await use(first), 200, "the old key in its grace");
    if (way.reloads) {
      await landed();
      await page.goto(new URL(`${key}/steps`, origin).href);
    } else {
      await own.press("I have stored it", "Update your applications");
    }
    same(await use(second), 200, "the new key");
    await page.reload();
    await own.press("Delete the old key", "Whatever still uses it stops");
    await own.choose("Another key replaces it");
    await own.press("Delete the old key", "The old key is deleted.");
    await landed();
    same(await use(first), 401, "the old key");
    same(await use(second), 200, "the new key");
    await page.goto(`${origin}/ai/keys`);
    await own.press("Usage", "By plan");
    await own.sees("granted");
    await own.press("All keys", "Keys in use");
    await own.press("Show ended keys too", "Hide ended keys");
  });
}

await test("a short-lived token, by the keyboard", {}, async (page) => {
  await log_in(page, 1);
  const own = hands(page, ways.keyboard);
  await page.goto(`${base}/one-codex/keys`);
  await own.press("Request an API key", "The key is shown once");
  await own.fill("Name", "laptop");
  await own.check("read");
  await own.press("Request the key", "Copy it now");
  await own.press("I have stored it", "What happened");
  await own.press("Make a short-lived token", "ends by itself");
  await own.press("Make a token", "Copy it now");
  const jwt = await page.getByLabel("Short-lived token", { exact: true }).inputValue();
  same(jwt.split(".").length, 3, "parts of a JWT");
});
