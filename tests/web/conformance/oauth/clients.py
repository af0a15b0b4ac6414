"""Clients of OAuth 2.0 for Python that were made by others.

python clients.py NAME ISSUER API CALLBACK ID SECRET [SERVICE SECRET]. Prints `visit URL` where a
person's browser is to go there, and reads where the browser was sent; prints `done WHAT`.
"""

import os
import sys

# The server listens on a loopback address.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
name, issuer, api, callback, client, secret, service, service_secret = sys.argv[1:]
token_url, revoke_url = f"{issuer}/oauth/token", f"{issuer}/oauth/revoke"
introspect_url = f"{issuer}/oauth/introspect"


def done(what):
    print("done", what, flush=True)


def visit(url):
    print("visit", url, flush=True)
    return sys.stdin.readline().strip()


def authlib():
    from authlib.integrations.requests_client import OAuth2Session

    session = OAuth2Session(
        client,
        secret,
        scope="read write",
        redirect_uri=callback,
        code_challenge_method="S256",
        token_endpoint=token_url,
        token_endpoint_auth_method="client_secret_basic",
    )
    verifier = "v" * 48
    url, state = session.create_authorization_url(f"{issuer}/oauth/authorize", code_verifier=verifier)
    back = visit(url)
    token = session.fetch_token(token_url, authorization_response=back, state=state, code_verifier=verifier)
    assert token["scope"] == "read write", token
    done("code")
    assert session.get(api).json()["owner"] == "acme/alice"
    done("access")
    refreshed = session.refresh_token(token_url, refresh_token=token["refresh_token"])
    assert refreshed["access_token"]
    done("refresh")
    told = session.introspect_token(introspect_url, token=refreshed["access_token"]).json()
    assert told["active"] and told["sub"] == "acme/alice", told
    done("introspection")
    assert session.revoke_token(revoke_url, token=refreshed["refresh_token"]).status_code == 200
    assert session.get(api).status_code == 401
    done("revocation")
    own = OAuth2Session(service, service_secret, token_endpoint_auth_method="client_secret_post")
    assert own.fetch_token(token_url, grant_type="client_credentials", scope="read")["scope"] == "read"
    done("credentials")


def requests_oauthlib():
    from oauthlib.oauth2 import BackendApplicationClient
    from requests_oauthlib import OAuth2Session

    session = OAuth2Session(client, redirect_uri=callback, scope=["read"], pkce="S256")
    url, _ = session.authorization_url(f"{issuer}/oauth/authorize")
    token = session.fetch_token(token_url, authorization_response=visit(url), client_secret=secret)
    assert token["scope"] == ["read"], token
    done("code")
    assert session.get(api).json()["owner"] == "acme/alice"
    done("access")
    refreshed = session.refresh_token(token_url, auth=(client, secret))
    assert refreshed["access_token"]
    done("refresh")
    own = OAuth2Session(client=BackendApplicationClient(service))
    token = own.fetch_token(token_url, client_secret=service_secret, include_client_id=True, scope=["read"])
    assert token["token_type"] == "Bearer" and "refresh_token" not in token, token
    done("credentials")


{"Authlib": authlib, "requests-oauthlib": requests_oauthlib}[name]()
