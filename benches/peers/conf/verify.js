// Verifies a bearer token for nginx: 200 with its subject, kept until it expires; 401; or 403 without the scope.
const RS256 = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
const KEY = Buffer.from('@public_key_der@', 'base64');

function part(text) {
    return JSON.parse(Buffer.from(text, 'base64url'));
}

async function claims(authorization) {
    const found = /^Bearer (([\w-]+)\.([\w-]+))\.([\w-]+)$/.exec(authorization);
    const key = await crypto.subtle.importKey('spki', KEY, RS256, false, ['verify']);
    const good = part(found[2]).alg === 'RS256'
        && await crypto.subtle.verify(RS256, key, Buffer.from(found[4], 'base64url'), found[1]);
    const said = part(found[3]);
    if (!good || said.iss !== '@issuer@' || said.aud !== '@audience@' || said.exp <= Date.now() / 1000) {
        throw new Error('refused');
    }
    return said;
}

async function token(r) {
    try {
        const said = await claims(r.headersIn.Authorization);
        if (!said.scope.split(' ').includes('@scope@')) {
            return r.return(403);
        }
        r.headersOut['X-Subject'] = said.sub;
        r.headersOut['X-Accel-Expires'] = `@${said.exp}`;
        r.return(200);
    } catch (e) {
        r.return(401);
    }
}

export default { token };
