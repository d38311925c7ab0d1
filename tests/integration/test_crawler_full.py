# suite: full
"""test_crawler.py with as many names as a crawler meets."""

import test_crawler
from lab.case import main


class ManyNames(test_crawler.Crawler):
    count = 10000


if __name__ == "__main__":
    main()
