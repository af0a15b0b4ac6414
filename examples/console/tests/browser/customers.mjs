import { assert, base, disk, insecure, links, log_in, person, same, test, use } from "./people.mjs";

// Fills in the form of the AI platform's page.
const create = async (page, name, at = `${base}/ai/keys`) => {
  await page.goto(at);
  await page.getByRole("link", { name: "Create a key" }).click();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Production").check();
  await page.getByLabel("Ends after").selectOption({ label: "90 days" });
  await page.getByRole("button", { name: "Create the key" }).click();
  return page.getByLabel("API key", { exact: true }).inputValue();
};

await test("a key is made, copied, stored and used", { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
  await log_in(page);
  const token = await create(page, "deploy robot");
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText("Copied.").waitFor();
  same(await page.evaluate(() => navigator.clipboard.readText()), token, "the clipboard");
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByRole("heading", { name: "deploy robot" }).waitFor();
  assert(!(await page.content()).includes(token), "the token is shown again");
  same(await use(token), 200, "the key");
  await page.reload();
  assert((await page.locator("dl").last().textContent()).includes("1"), "the use is not shown");
});

await test("on plain HTTP of another name the key is copied too", {}, async (page) => {
  await log_in(page, 0, insecure);
  const token = await create(page, "plain", `${insecure}/ai/keys`);
  same(await page.evaluate(() => isSecureContext), false, "a secure context");
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText("Copied.").waitFor();
  // Paste it somewhere, as a person would.
  await page.evaluate(() => {
    const area = document.createElement("textarea");
    area.id = "paste";
    document.body.append(area);
  });
  await page.locator("#paste").focus();
  await page.keyboard.press("Control+V");
  same(await page.locator("#paste").inputValue(), token, "what was pasted");
});

await test("back and reload after a form make no second key", {}, async (page) => {
  await log_in(page);
  const token = await create(page, "once only");
  // A reload sends the form again.
  await page.reload();
  await page.getByRole("heading", { name: "This form was sent already" }).waitFor();
  assert(!(await page.content()).includes(token), "the token is shown again");
  await page.goBack();
  await page.goto(`${base}/ai/keys`);
  same(await page.getByRole("link", { name: "once only" }).count(), 1, "keys of the name");
  same(await use(token), 200, "the key");
});

await test("two presses of the button make one key", {}, async (page) => {
  await log_in(page);
  await page.goto(`${base}/ai/keys/new?keyspace=ai_live`);
  await page.getByLabel("Name", { exact: true }).fill("pressed twice");
  await page.getByRole("button", { name: "Create the key" }).dblclick();
  await page.getByLabel("API key", { exact: true }).waitFor();
  await page.goto(`${base}/ai/keys`);
  same(await page.getByRole("link", { name: "pressed twice" }).count(), 1, "keys of the name");
});

await test("a rotation is followed through its four steps", {}, async (page) => {
  await log_in(page);
  const old = await create(page, "to rotate");
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByRole("link", { name: "Rotate", exact: true }).click();
  await page.getByLabel("works for 1 day more").check();
  await page.getByRole("button", { name: "Create the new key" }).click();
  const token = await page.getByLabel("API key", { exact: true }).inputValue();
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByText("Looking for the first use").waitFor();
  same(await use(old), 200, "the old key in its grace");
  same(await use(token), 200, "the new key");
  // The page notices by itself.
  await page.getByText("The new key works").waitFor();
  await page.getByRole("link", { name: "Delete the old key" }).click();
  await page.getByLabel("Another key replaces it").check();
  await page.getByRole("button", { name: "Delete the old key" }).click();
  await page.getByText("The old key is deleted").waitFor();
  same(await use(old), 401, "the old key after its end");
  same(await use(token), 200, "the new key after all");
});

await test("the first stop of the keyboard leads past the links", {}, async (page) => {
  await log_in(page);
  await page.goto(`${base}/ai/keys`);
  await page.keyboard.press("Tab");
  same(await page.evaluate(() => document.activeElement.textContent), "Skip to the content", "the first stop");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  same(await page.evaluate(() => document.activeElement.textContent), "Create a key", "the next stop");
});

await test("two browsers on one key: the second is told, and overwrites nothing", {}, async (page) => {
  await log_in(page);
  await create(page, "of two");
  await page.getByRole("link", { name: "I have stored it" }).click();
  const address = page.url();
  const other = await person();
  await log_in(other.page);
  await other.page.goto(`${address}/edit`);
  await page.goto(`${address}/edit`);
  await page.getByLabel("Name", { exact: true }).fill("the first");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await other.page.getByLabel("Name", { exact: true }).fill("the second");
  await other.page.getByRole("button", { name: "Save" }).click();
  await other.page.getByRole("heading", { name: "This has changed meanwhile" }).waitFor();
  await other.page.goto(address);
  await other.page.getByRole("heading", { name: "the first" }).waitFor();
  await other.context.close();
});

await test("one key at a time: requested, lost, regenerated", {}, async (page) => {
  await log_in(page);
  await page.goto(`${base}/one-codex/keys`);
  await page.getByRole("link", { name: "Request an API key" }).click();
  await page.getByLabel("Name", { exact: true }).fill("laptop");
  await page.getByLabel("read", { exact: false }).first().check();
  await page.getByRole("button", { name: "Request the key" }).click();
  const first = await page.getByLabel("API key", { exact: true }).inputValue();
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByText("Nobody can show it again").waitFor();
  await page.goto(`${base}/one-codex/keys`);
  await page.getByRole("link", { name: "Regenerate the key" }).click();
  // Whoever regenerates a key has lost it, most often: so that is chosen already.
  same(await page.getByLabel("ends at once").isChecked(), true, "the end of the old key");
  await page.getByRole("button", { name: "Regenerate the key" }).click();
  const second = await page.getByLabel("API key", { exact: true }).inputValue();
  same(await use(first), 401, "the lost key");
  same(await use(second), 200, "the new key");
  await page.getByRole("link", { name: "I have stored it" }).click();
  // A short-lived token of the key, as its settings page promises.
  await page.getByRole("link", { name: "Make a short-lived token" }).click();
  await page.getByRole("button", { name: "Make a token" }).click();
  const jwt = await page.getByLabel("Short-lived token", { exact: true }).inputValue();
  same(jwt.split(".").length, 3, "parts of a JWT");
});

await test("service accounts below projects have keys of their own", {}, async (page) => {
  await log_in(page);
  await page.goto(`${base}/pixxel/keys`);
  for (const [project, account] of [["atlas", "etl-bot"], ["atlas", "reports"], ["survey", "etl-bot"]]) {
    await page.getByRole("link", { name: "Create a key" }).click();
    await page.getByLabel("Project").fill(project);
    await page.getByLabel("Service account").fill(account);
    await page.getByLabel("Name", { exact: true }).fill(`${account} of ${project}`);
    await page.getByLabel("order").check();
    await page.getByRole("button", { name: "Create the key" }).click();
    await page.getByRole("link", { name: "I have stored it" }).click();
    await page.getByRole("link", { name: "All keys" }).click();
  }
  same(await page.getByRole("table").count(), 3, "groups");
});

await test("a log-in that ends in the middle loses nothing and shows nothing", {}, async (page, context) => {
  await log_in(page);
  await page.goto(`${base}/ai/keys/new?keyspace=ai_live`);
  await page.getByLabel("Name", { exact: true }).fill("too late");
  await context.clearCookies();
  await page.getByRole("button", { name: "Create the key" }).click();
  await page.getByRole("heading", { name: "Log in first" }).waitFor();
  await log_in(page);
  await page.goto(`${base}/ai/keys`);
  same(await page.getByRole("link", { name: "too late" }).count(), 0, "keys of the name");
});

await test("another customer's key is not found", {}, async (page) => {
  await log_in(page, 0);
  await create(page, "mine alone");
  await page.getByRole("link", { name: "I have stored it" }).click();
  const address = page.url();
  const other = await person();
  await log_in(other.page, 1);
  for (const end of ["", "/edit", "/rotate", "/revoke"]) {
    const answer = await other.page.goto(`${address}${end}`);
    same(answer.status(), 404, end);
  }
  await other.context.close();
});

await test("a page of another origin cannot send a form, nor frame a page", {}, async (page) => {
  await log_in(page, 0);
  await create(page, "under attack");
  await page.getByRole("link", { name: "I have stored it" }).click();
  const address = page.url();
  await page.goto(`${insecure}/`);
  await page.setContent(`<form method="post" action="${address}/revoke"><input name="reason" value="cessation"><button>win</button></form>`);
  await page.getByRole("button").click();
  await page.getByRole("heading", { name: /came from elsewhere|Log in first/ }).waitFor();
  await page.goto(address);
  same(await page.getByText("Active").count(), 1, "the key is active");
  // A frame of the page, also one of its own origin, stays empty.
  const framing = await page.context().newPage();
  for (const origin of [base, insecure]) {
    await framing.goto(`${origin}/`);
    await framing.setContent(`<iframe src="${address}/revoke" width="600" height="600"></iframe>`);
    await framing.waitForLoadState();
    const frame = framing.frames().find((frame) => frame !== framing.mainFrame());
    await frame.waitForLoadState();
    assert(frame.url().startsWith("chrome-error:"), `a frame shows ${frame.url()}`);
    same(await frame.getByRole("button", { name: "Revoke the key" }).count(), 0, "buttons in the frame");
  }
});

await test("a store that fails under a form: the page says so, and a reload does it once", {}, async (page) => {
  await log_in(page);
  await page.goto(`${base}/ai/keys/new?keyspace=ai_live`);
  await page.getByLabel("Name", { exact: true }).fill("made later");
  await page.getByLabel("Production").check();
  await disk("broken");
  await page.getByRole("button", { name: "Create the key" }).click();
  await page.getByRole("heading", { name: /cannot be reached now|It is not known whether that was done/ }).waitFor();
  // What only looks goes on meanwhile.
  const other = await page.context().newPage();
  await other.goto(`${base}/ai/keys`);
  await other.getByRole("heading", { name: "API keys" }).waitFor();
  await disk("well");
  await page.reload();
  const token = await page.getByLabel("API key", { exact: true }).inputValue();
  same(await use(token), 200, "the key");
  await page.goto(`${base}/ai/keys`);
  same(await page.getByRole("link", { name: "made later" }).count(), 1, "keys of the name");
});

await test("owners with markup and of 255 bytes are shown as they are", {}, async (page) => {
  for (const who of [2, 3]) {
    await log_in(page, who);
    await create(page, who === 2 ? "<b>\u05d0\u05d1\u05d2 shalom</b>" : "\u0645\u0631\u062d\u0628\u0627 robot");
    await page.getByRole("link", { name: "I have stored it" }).click();
    const text = await page.locator("main").textContent();
    assert(text.includes(who === 2 ? "<b>&amp;\"'</b>" : "x".repeat(64)), "the owner is not shown");
    same(await page.locator("main b").count(), 0, "markup of the owner's");
  }
  assert(links.length >= 4, "links");
});
