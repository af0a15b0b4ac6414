import { desk, everywhere, operate, same, test } from "./people.mjs";

await test("every page of operators is for everybody: 320 and 1440 px, light and dark, axe", {}, async (page) => {
  await page.goto(`${desk}/login`);
  await everywhere(page, "desk-login");
  await page.getByLabel("Admin key").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  await everywhere(page, "desk-login-wrong");
  await operate(page);
  await everywhere(page, "desk-overview");
  for (const [path, name] of [
    ["/keys", "desk-keys"],
    ["/keys?owner=nobody", "desk-keys-empty"],
    ["/keys/new", "desk-new"],
    ["/keys/new?keyspace=ai_live", "desk-new-key"],
    ["/owners", "desk-owners"],
    ["/keyspaces", "desk-keyspaces"],
    ["/keyspaces/tiered", "desk-keyspace"],
    ["/keyspaces/new", "desk-keyspace-new"],
    ["/keyspaces/ai_live/edit", "desk-keyspace-edit"],
    ["/keyspaces/tiered/plan?plan=free", "desk-plan"],
    ["/keyspaces/ai_live/level", "desk-levels"],
    ["/keyspaces/ai_live/level?depth=1", "desk-level"],
    ["/keyspaces/ai_live/retire", "desk-retire"],
    ["/keyspaces/ai_live/revoke", "desk-keyspace-revoke"],
    ["/hints", "desk-hints"],
    ["/metrics", "desk-metrics"],
    ["/trail", "desk-trail"],
    ["/store", "desk-store"],
    ["/owners/one?owner=nobody", "desk-owner-unknown"],
    ["/owners/revoke?owner=nobody", "desk-owner-nothing-left"],
    ["/nothing", "desk-not-found"],
  ]) {
    await page.goto(`${desk}${path}`);
    await everywhere(page, name);
  }
  await page.goto(`${desk}/keys`);
  const cut = `acme_live_${await page.locator("tbody input").first().inputValue()}_aB3dE6gH9j`;
  await page.getByLabel("Find").fill(`api_key=${cut}`);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("it proves nothing").waitFor();
  await everywhere(page, "desk-find-id");
  await page.goto(`${desk}/keys?state=active&keyspace=ai_live`);
  await page.locator("tbody a").first().click();
  await page.getByRole("heading", { name: "The key" }).waitFor();
  const key = page.url();
  await everywhere(page, "desk-key");
  for (const end of ["edit", "limits", "rotate", "revoke"]) {
    await page.goto(`${key}/${end}`);
    await everywhere(page, `desk-${end}`);
  }
  await page.goto(key);
  const owner = await page.getByRole("link", { name: "Show the owner" }).getAttribute("href");
  await page.goto(new URL(owner, key).href);
  await everywhere(page, "desk-owner");
  await page.getByRole("link", { name: "tiered", exact: true }).click();
  await everywhere(page, "desk-owner-settings");
  await page.goBack();
  await page.getByRole("link", { name: "Revoke all its keys" }).click();
  await everywhere(page, "desk-owner-revoke");
  await page.goto(`${desk}/keys?state=active`);
  await page.getByLabel("Pick all on this page").check();
  await page.getByLabel("With the picked keys").selectOption({ label: "Revoke" });
  await page.getByRole("button", { name: "Go on" }).click();
  await everywhere(page, "desk-bulk");
  same(await page.getByRole("table").count(), 1, "tables");
});

// Owners of 255 bytes and with markup, and texts from right to left, as operators see them.
await test("pages of strange owners and names: 320 and 1440 px, light and dark, axe", {}, async (page) => {
  await operate(page);
  const part = (letter) => letter.repeat(64);
  const wide = `${part("x")}/${part("y")}/${part("y")}/${"z".repeat(60)}`;
  for (const [owner, name, which] of [
    [wide, "n".repeat(100), "wide"],
    ["<b>&amp;\"'</b>", "\u05d0\u05d1\u05d2 <i>shalom</i> \u0645\u0631\u062d\u0628\u0627", "markup"],
  ]) {
    await page.goto(`${desk}/keys/new?keyspace=ai_live`);
    await page.getByLabel("Owner").fill(owner);
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("Description").fill(name);
    await page.getByLabel("read", { exact: true }).check();
    await page.getByRole("button", { name: "Create the key" }).click();
    await everywhere(page, `desk-token-${which}`, false);
    await page.getByRole("link", { name: "I have stored it" }).click();
    await page.getByRole("heading", { name }).waitFor();
    const key = page.url();
    await everywhere(page, `desk-key-${which}`, false);
    await page.goto(`${key}/revoke`);
    await everywhere(page, `desk-revoke-${which}`, false);
    const query = `owner=${encodeURIComponent(owner)}`;
    for (const [path, shown] of [
      [`/keys?${query}`, "desk-keys"],
      [`/owners/one?${query}`, "desk-owner"],
      [`/owners/settings?${query}&keyspace=ai_live`, "desk-owner-settings"],
      [`/owners/suspend?${query}`, "desk-owner-suspend"],
    ]) {
      await page.goto(`${desk}${path}`);
      same(await page.locator("main b, main i").count(), 0, `markup on ${path}`);
      await everywhere(page, `${shown}-${which}`, false);
    }
  }
});
