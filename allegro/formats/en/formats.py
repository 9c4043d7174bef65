# Of the admin: to the second, sortable by eye, and short enough for its lists. Times are UTC.
DATETIME_FORMAT = "Y-m-d H:i:s"
DATE_FORMAT = "Y-m-d"
