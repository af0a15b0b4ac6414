// Uploads bytes with a key, by fetch and by axios; prints a status for each.
// node upload.js URL KEY BYTES FOLDER, where the folder holds axios.
const [url, key, bytes, folder] = process.argv.slice(2);
const axios = require(require.resolve('axios', { paths: [folder] }));
const body = Buffer.alloc(Number(bytes));
const headers = { 'x-api-key': key, 'content-type': 'application/octet-stream' };

async function main() {
  const fetched = await fetch(url, { method: 'POST', headers, body });
  console.log(`fetch ${fetched.status}`);
  await fetched.text();
  const posted = await axios.post(url, body, {
    headers, maxBodyLength: Infinity, validateStatus: () => true, proxy: false,
  });
  console.log(`axios ${posted.status}`);
}

main().catch((error) => console.log(`failed ${error.code} ${error.message} ${error.cause}`));
