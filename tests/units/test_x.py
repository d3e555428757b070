from ..models import BUILDERS, cut, random_feed
def test_a():
    for b in BUILDERS.values(): cut(b())
