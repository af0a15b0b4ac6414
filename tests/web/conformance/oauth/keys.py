"""Verifies a JWT by the key set at a URL, with PyJWT. python keys.py JWT KEYS ISSUER ALG"""

import sys

import jwt

token, keys, issuer, alg = sys.argv[1:]
key = jwt.PyJWKClient(keys).get_signing_key_from_jwt(token)
must = {"require": ["iss", "aud", "sub", "exp", "iat", "jti", "client_id"]}
claims = jwt.decode(token, key, algorithms=[alg], audience=issuer, issuer=issuer, options=must)
assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
print(claims["sub"])
try:
    jwt.decode(token[:-4] + "AAAA", key, algorithms=[alg], audience=issuer, issuer=issuer)
except jwt.InvalidSignatureError:
    print("refused")
