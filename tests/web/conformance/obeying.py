"""Does a job of so many requests with urllib3, which waits as a 429 says.

    obeying.py URL TOKEN COUNT

Prints how many were served, and a line for each 429: how long it said to wait.
"""

import sys

import urllib3

url, token, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
waits = []


class Telling(urllib3.Retry):
    def get_retry_after(self, response):
        wait = super().get_retry_after(response)
        waits.append(wait)
        return wait


pool = urllib3.PoolManager(retries=Telling(total=20))
headers = {"Authorization": f"Bearer {token}"}
served = sum(pool.request("GET", url, headers=headers).status == 200 for _ in range(count))
print(served)
for wait in waits:
    print(f"{wait:g}")
