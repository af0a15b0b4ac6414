// Does a job of so many requests with axios and axios-retry, which waits as a 429 says.
// node obeying.js URL TOKEN COUNT FOLDER, where the folder holds both. Prints how many were
// served, and a line for each 429: how long it said to wait.
const [url, token, count, folder] = process.argv.slice(2);
const load = (name) => require(require.resolve(name, { paths: [folder] }));
const axios = load('axios');
const axiosRetry = load('axios-retry').default;

async function main() {
  const waits = [];
  const client = axios.create({ proxy: false, headers: { Authorization: `Bearer ${token}` } });
  axiosRetry(client, {
    retries: 20,
    onRetry: (_, error) => waits.push(error.response.headers['retry-after']),
  });
  let served = 0;
  for (let i = 0; i < Number(count); i += 1) {
    served += (await client.get(url)).status === 200 ? 1 : 0;
  }
  console.log([served, ...waits].join('\n'));
}

main().catch((error) => console.log(`failed ${error.code} ${error.message} ${error.cause}`));
