// All that an operator does, in every way that people do it.
import { admin_keys, assert, desk, go, same, test, use } from "./people.mjs";
import { hands, ways } from "./hands.mjs";

const token_on = (page) => page.getByLabel("API key", { exact: true }).inputValue();

let number = 0;
for (const [name, way] of Object.entries(ways)) {
  number += 1;
  const org = `ways-${number}`;
  // The position of the last change: nothing else changes the store meanwhile.
  const changes = async (page) => {
    const answer = await page.context().request.get(`${desk}/trail`);
    return Number(/gk-number">(\d+)</.exec(await answer.text())[1]);
  };
  const landing = (page) => async () => {
    if (!way.reloads) return;
    const before = await changes(page);
    const at = page.url();
    await page.reload();
    // A page that came of a form is not shown again: the browser says so.
    await page.goBack().catch(() => page.waitForLoadState());
    await go(page, at);
    same(await changes(page), before, "changes after a reload, back and forth");
  };
  const begin = async (page) => {
    const own = hands(page, way);
    await page.goto(`${desk}/login`);
    await own.fill("Admin key", admin_keys[0]);
    await own.press("Log in", "Newest changes");
    return own;
  };

  await test(`an operator, ${name}: one key`, way.options, async (page) => {
    const own = await begin(page);
    const landed = landing(page);
    await page.goto(`${desk}/keys/new`);
    await own.select("Keyspace", "ai_live - AI platform");
    await own.press("Next", "Owner");
    await own.fill("Owner", `${org}/etl`);
    await own.fill("Name", `of ${name}`);
    await own.check("read");
    await own.press("Create the key", "Copy it now");
    const token = await token_on(page);
    await landed();
    await page.goto(desk);
    await own.fill("Find", token);
    await own.press("Find", "This is the key of the token");
    assert(!page.url().includes(token), "the token is in the address");
    assert(!(await page.content()).includes(token), "the token is on the page");
    const key = page.url().split("?")[0];
    await own.press("Disable (can be undone)", "The key is disabled.");
    await landed();
    same(await use(token), 401, "the disabled key");
    await own.press("Enable", "The key is enabled.");
    await landed();
    same(await use(token), 200, "the enabled key");
    await own.press("Rename and describe", "Description");
    await own.fill("Name", `renamed, ${name}`);
    await own.check("write");
    await own.press("Save", "Saved.");
    await landed();
    await own.press("Limits and quota", "has of its own");
    await own.choose("Limits of its own");
    await own.fill("Requests", "100");
    await own.press("Save", "Saved.");
    await own.sees("100 in 1 minute, sliding window");
    await landed();
    await own.press("Rotate", "takes the place of");
    await own.choose("works for 1 day more");
    await own.press("Create the new key", "Both keys work for now");
    const next = await token_on(page);
    await landed();
    same(await use(token), 200, "the old key in its grace");
    await page.goto(key);
    await own.press("Revoke", "This cannot be undone");
    await own.choose("Its holder may not have it any more");
    await own.fill("Note", "of the tests");
    await own.press("Revoke the key", "The key is revoked.");
    await landed();
    same([await use(token), await use(next)].join(" "), "401 200", "the old and the new key");
    await own.press("Show the owner", "Settings of the owner");
    await own.press("All its keys", "Download as CSV");
    await own.check(`Pick renamed, ${name}`);
    await own.select("With the picked keys:", "Disable");
    await own.press("Go on", "Keys that this reaches: 1");
    await own.press("Disable", "Results");
    await landed();
  });

  await test(`an operator, ${name}: an owner`, way.options, async (page) => {
    const own = await begin(page);
    const landed = landing(page);
    await page.goto(`${desk}/owners`);
    await own.fill("Owner", org);
    await own.press("Show", "The owner");
    await own.press("Suspend the owner", "Keys that this reaches");
    await own.fill("Note", "unpaid");
    await own.fill(`Type "${org}" to confirm`, org);
    await own.press("Suspend the owner", "The owner is suspended.");
    await landed();
    await own.press("Resume the owner", "The owner is resumed.");
    await landed();
    await own.press("tiered", "has of its own");
    await own.select("Plan", "pro: 200 in 1 second, sliding window; 10,000 in 1 hour, fixed window");
    await own.choose("Limits of its own");
    await own.fill("Requests", "7");
    await own.select("Counted by", "fixed window");
    await own.fill("Most keys", "12");
    await own.press("Save", "Saved.");
    await own.sees("7 in 1 minute, fixed window");
    await landed();
    await own.press("Revoke all its keys", "end for good");
    await own.choose("It is not needed any more");
    await own.fill(`Type "${org}" to confirm`, org);
    await own.press("Revoke all its keys", "All keys of the owner are revoked.");
    await landed();
  });

  await test(`an operator, ${name}: a keyspace`, way.options, async (page) => {
    const own = await begin(page);
    const landed = landing(page);
    const prefix = `ways_${number}`;
    await page.goto(`${desk}/keyspaces`);
    await own.press("Create a keyspace", "Prefix");
    await own.fill("Prefix", prefix);
    await own.fill("Description", `made ${name}`);
    await own.fill("Permissions", "read write");
    await own.press("Create a keyspace", "The keyspace is created.");
    await landed();
    await own.press("Change the rules", "The rules hold for new keys");
    await own.fill("Description", "changed");
    await own.choose("One at a time; a second one is refused");
    await own.press("Save", "Saved.");
    await landed();
    await own.press("Add a plan", "lets any number");
    await own.fill("Name", "gold");
    await own.fill("Requests", "1,000");
    await own.press("Save", "Saved.");
    await landed();
    await own.press("gold", "The limits hold for all keys");
    await own.fill("Requests", "20");
    await own.fill('Type "gold" to confirm', "gold");
    await own.press("Save", "20 in 1 minute");
    await landed();
    await own.press("Defaults of owners", "Which owners?");
    await own.press("Next", "This holds for every owner");
    await own.select("Plan", "gold: 20 in 1 minute, sliding window");
    await own.fill(`Type "${prefix}" to confirm`, prefix);
    await own.press("Save", "Saved.");
    await landed();
    await own.press("Retire permissions", "cannot be undone");
    await own.check("write");
    await own.fill(`Type "${prefix}" to confirm`, prefix);
    await own.press("Retire them", "write (retired)");
    await landed();
    await own.press("Revoke all its keys", "end for good");
    await own.choose("It is not needed any more");
    await own.fill(`Type "${prefix}" to confirm`, prefix);
    await own.press("Revoke all its keys", "All keys of the keyspace are revoked.");
    await landed();
  });

  await test(`an operator, ${name}: the pages to look at`, way.options, async (page) => {
    const own = await begin(page);
    await own.press("Rotations under way", "Download as CSV");
    for (const [link, text] of [
      ["Owners", "Suspended owners"],
      ["Hints", "A hint refuses nothing"],
      ["Metrics", "Since the store was opened"],
      ["Audit trail", "Changes, the newest first"],
      ["Store", "Size of the file"],
    ]) {
      await own.press(link, text);
    }
    await own.press("Check the store", "The store is sound");
    const backup = await own.downloads("Download a backup", "keys.redb");
    assert(backup.length > 4096, `a backup of ${backup.length} bytes`);
    await own.press("Keys", "Download as CSV");
    const csv = (await own.downloads("Download as CSV", "keys.csv")).toString();
    assert(csv.startsWith("id,name,owner,") && csv.split("\r\n").length > 40, csv.slice(0, 200));
    await own.fill("Owner, and all below", org);
    await own.select("State", "Revoked");
    await own.press("Filter");
    await page.waitForURL(/state=revoked/);
    assert(page.url().includes(`owner=${org}`), page.url());
    await own.press("Log out", "Operators log in by an admin key");
  });
}
