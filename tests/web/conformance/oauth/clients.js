// Clients of OAuth 2.0 for Node that were made by others.
// node clients.js FOLDER NAME ISSUER API CALLBACK ID SECRET [SERVICE SECRET], where the folder
// holds them. Prints `visit URL` where a person's browser is to go there, and reads where the
// browser was sent; prints `done WHAT` for what it has done.
const [folder, name, issuer, api, callback, id, secret, service, serviceSecret] = process.argv.slice(2);
const load = (module) => require(require.resolve(module, { paths: [folder] }));
const lines = require('node:readline').createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const assert = require('node:assert');

const done = (what) => console.log(`done ${what}`);

async function visit(url) {
  console.log(`visit ${url}`);
  return new URL((await lines.next()).value);
}

async function oauth4webapi() {
  const oauth = load('oauth4webapi');
  const insecure = { [oauth.allowInsecureRequests]: true };
  const resource = new URL(issuer);
  const described = await oauth.resourceDiscoveryRequest(resource, insecure);
  const { authorization_servers: [url] } = await oauth.processResourceDiscoveryResponse(resource, described);
  const found = await oauth.discoveryRequest(new URL(url), { algorithm: 'oauth2', ...insecure });
  const as = await oauth.processDiscoveryResponse(new URL(url), found);
  done('discovery');
  const client = { client_id: id };
  const auth = oauth.ClientSecretBasic(secret);
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const ask = new URL(as.authorization_endpoint);
  const asked = {
    client_id: id, redirect_uri: callback, response_type: 'code', scope: 'read write', state, resource: issuer,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  };
  for (const [key, value] of Object.entries(asked)) ask.searchParams.set(key, value);
  const params = oauth.validateAuthResponse(as, client, await visit(ask), state);
  const code = await oauth.authorizationCodeGrantRequest(as, client, auth, params, callback, verifier, insecure);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, code);
  assert.equal(tokens.scope, 'read write');
  done('code');
  const account = await oauth.protectedResourceRequest(
    tokens.access_token, 'GET', new URL(api), undefined, undefined, insecure);
  assert.equal((await account.json()).owner, 'acme/alice');
  done('access');
  const again = await oauth.refreshTokenGrantRequest(as, client, auth, tokens.refresh_token, insecure);
  const refreshed = await oauth.processRefreshTokenResponse(as, client, again);
  assert.ok(refreshed.refresh_token);
  done('refresh');
  const introspected = async () => {
    const response = await oauth.introspectionRequest(as, client, auth, refreshed.access_token, insecure);
    return oauth.processIntrospectionResponse(as, client, response);
  };
  assert.equal((await introspected()).sub, 'acme/alice');
  done('introspection');
  const revoked = await oauth.revocationRequest(as, client, auth, refreshed.refresh_token, insecure);
  await oauth.processRevocationResponse(revoked);
  assert.deepEqual(await introspected(), { active: false });
  done('revocation');
  const own = { client_id: service };
  const post = oauth.ClientSecretPost(serviceSecret);
  const served = await oauth.clientCredentialsGrantRequest(as, own, post, { scope: 'read' }, insecure);
  assert.equal((await oauth.processClientCredentialsResponse(as, own, served)).scope, 'read');
  done('credentials');
}

async function openidClient() {
  const oauth = load('openid-client');
  const how = { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests] };
  const config = await oauth.discovery(new URL(issuer), id, undefined, oauth.ClientSecretBasic(secret), how);
  done('discovery');
  const verifier = oauth.randomPKCECodeVerifier();
  const state = oauth.randomState();
  const back = await visit(oauth.buildAuthorizationUrl(config, {
    redirect_uri: callback, scope: 'read', state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  }));
  const checks = { pkceCodeVerifier: verifier, expectedState: state };
  const tokens = await oauth.authorizationCodeGrant(config, back, checks);
  assert.equal(tokens.scope, 'read');
  done('code');
  const account = await oauth.fetchProtectedResource(config, tokens.access_token, new URL(api), 'GET');
  assert.equal((await account.json()).owner, 'acme/alice');
  done('access');
  const refreshed = await oauth.refreshTokenGrant(config, tokens.refresh_token);
  done('refresh');
  assert.ok((await oauth.tokenIntrospection(config, refreshed.access_token)).active);
  done('introspection');
  await oauth.tokenRevocation(config, refreshed.access_token);
  await assert.rejects(oauth.refreshTokenGrant(config, refreshed.refresh_token), { error: 'invalid_grant' });
  done('revocation');
  // A person who denies.
  const denied = await visit(oauth.buildAuthorizationUrl(config, {
    redirect_uri: callback, scope: 'write', state: 'deny',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  }));
  const expected = { ...checks, expectedState: 'deny' };
  await assert.rejects(oauth.authorizationCodeGrant(config, denied, expected), { error: 'access_denied' });
  done('denied');
  const own = await oauth.discovery(new URL(issuer), service, undefined, oauth.ClientSecretPost(serviceSecret), how);
  assert.ok((await oauth.clientCredentialsGrant(own, { scope: 'read' })).access_token);
  done('credentials');
}

/** As an application that logs people in through passport: with a secret in the body. */
async function passport() {
  const Strategy = load('passport-oauth2');
  const strategy = new Strategy({
    authorizationURL: `${issuer}/oauth/authorize`, tokenURL: `${issuer}/oauth/token`,
    clientID: id, clientSecret: secret, callbackURL: callback, scope: ['read'], state: true, pkce: true,
  }, (access, refresh, params, profile, cb) => cb(null, { access, refresh, params }));
  const session = {};
  const authenticate = (query) => new Promise((resolve, reject) => {
    const run = Object.create(strategy);
    run.redirect = (url) => resolve({ url });
    run.success = (user) => resolve({ user });
    run.fail = (why) => reject(new Error(JSON.stringify(why)));
    run.error = reject;
    run.authenticate({ query, session, body: {}, headers: {} }, {});
  });
  const back = await visit((await authenticate({})).url);
  const { user } = await authenticate(Object.fromEntries(back.searchParams));
  assert.ok(user.access && user.refresh);
  done('code');
  const account = await fetch(api, { headers: { authorization: `Bearer ${user.access}` } });
  assert.equal((await account.json()).owner, 'acme/alice');
  done('access');
}

const clients = { oauth4webapi, 'openid-client': openidClient, 'passport-oauth2': passport };
clients[name]().then(() => process.exit(0), (error) => {
  console.log(`failed ${error.stack} ${error.cause?.stack ?? ''}`.replaceAll('\n', ' | '));
  process.exit(1);
});
