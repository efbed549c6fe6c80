import time
from tests.integration.test_shop import *
from distcache_django.freshness.service import freshness
import tests.integration.test_shop as m
m.ready_nodes=lambda: None
from tests.support import freshness as sf
def test_x():
    f=freshness()
    t=time.monotonic()
    for i in range(300):
        r=[sf._stores(f"7:{p}") for p in range(32)]
        print(i,round(time.monotonic()-t,2),sum(r),[(x,round(v.quarantined_until-time.monotonic(),1)) for x,v in f._versions._lives.items()], f.counts())
        if all(r): break
        time.sleep(.1)
