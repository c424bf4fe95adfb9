"""A page in the browser, on which systems make music side by side and are judged blind."""

from melody_cm.comparison.demo.page import open_page
