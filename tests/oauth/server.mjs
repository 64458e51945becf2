// A real authorization server for tests: oidc-provider with JWT access tokens per resource, dynamic registration, and a
// user who signs in and consents without a page. `server.mjs --version`, or `server.mjs CONFIG.json` with
//   {"port", "issuer", "jwks", "scopes": ["mcp:ledger"], "clients": [], "ttl_s": 600, "account": "alice"}
// PUT /test/deny {"scopes": [...]} has the user leave these out of what is asked of them from then on.
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

if (process.argv[2] === '--version') {
  const about = new URL('node_modules/oidc-provider/package.json', import.meta.url);
  console.log(JSON.parse(readFileSync(about)).version);
  process.exit(0);
}

const config = JSON.parse(readFileSync(process.argv[2]));
let denied = [];

const provider = new Provider(config.issuer, {
  jwks: config.jwks,
  clients: config.clients ?? [],
  scopes: ['openid', 'offline_access', ...config.scopes],
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  cookies: { keys: ['for tests only'] },
  interactions: { url: (ctx, interaction) => `/test/interaction/${interaction.uid}` },
  ttl: { AccessToken: config.ttl_s ?? 600, ClientCredentials: config.ttl_s ?? 600, Grant: 3600, Session: 3600, Interaction: 600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: config.scopes.join(' '),
        audience: resource,
        accessTokenTTL: config.ttl_s ?? 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: config.jwks.keys[0].alg } },
      }),
    },
  },
});

async function consent({ grantId, params, prompt, session }) {
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (prompt.details.missingOIDCScope) grant.addOIDCScope(prompt.details.missingOIDCScope.join(' '));
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    const given = scopes.filter((scope) => !denied.includes(scope));
    const refused = scopes.filter((scope) => denied.includes(scope));
    if (given.length) grant.addResourceScope(resource, given.join(' '));
    if (refused.length) grant.rejectResourceScope(resource, refused.join(' '));
  }
  return { consent: { grantId: await grant.save() } };
}

async function body(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return JSON.parse(Buffer.concat(parts));
}

provider.use(async (ctx, next) => {
  if (ctx.path === '/test/deny' && ctx.method === 'PUT') {
    denied = (await body(ctx.req)).scopes;
    ctx.status = 204;
  } else if (ctx.path.startsWith('/test/interaction/')) {
    const details = await provider.interactionDetails(ctx.req, ctx.res);
    const account = details.params.login_hint ?? config.account ?? 'alice';
    const result = details.prompt.name === 'login' ? { login: { accountId: account } } : await consent(details);
    await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
    ctx.respond = false;
  } else {
    await next();
  }
});

provider.on('server_error', (ctx, error) => console.error(error));
provider.listen(config.port, '127.0.0.1', () => console.log('listening'));
