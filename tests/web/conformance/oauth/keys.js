// Verifies a JWT by the key set at a URL, with jose. node keys.js JWT KEYS ISSUER ALG FOLDER
const [token, keys, issuer, alg, folder] = process.argv.slice(2);
const jose = require(require.resolve('jose', { paths: [folder] }));

async function main() {
  const set = jose.createRemoteJWKSet(new URL(keys));
  const expected = { issuer, audience: issuer, typ: 'at+jwt', algorithms: [alg], requiredClaims: ['sub', 'exp', 'jti'] };
  const { payload } = await jose.jwtVerify(token, set, expected);
  console.log(payload.sub);
  await jose.jwtVerify(`${token.slice(0, -4)}AAAA`, set, expected).catch(() => console.log('refused'));
}

main().catch((error) => console.log(`failed ${error.stack}`));
