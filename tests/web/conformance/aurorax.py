"""Asks the example server through AuroraX's own client, pyaurorax: its class for
requests, without the rest of the package, which would bring half a gigabyte.

    aurorax.py URL TOKEN
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

package = Path(importlib.util.find_spec("pyaurorax").origin).parent
for name in ["pyaurorax", "pyaurorax.search", "pyaurorax.search.api", "pyaurorax.search.api.classes"]:
    module = types.ModuleType(name)
    module.__path__ = [str(package.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = module
request = importlib.import_module("pyaurorax.search.api.classes.request")


class Client:
    api_headers = {}
    api_timeout = 60

    def __init__(self, key):
        self.api_key = key
        self.api_headers = {"content-type": "application/json"}


def ask(key, path, method="get"):
    return request.AuroraXAPIRequest(Client(key), sys.argv[1] + path, method=method).execute()


def show(key, path):
    try:
        print(ask(key, path).data["owner"])
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


token = sys.argv[2]
show(token, "/aurorax/account")
show(None, "/aurorax/account")
show("nonsense", "/aurorax/public")
show(token, "/aurorax/nothing")
print(ask(token, "/aurorax/items", "post").data["error_message"])
