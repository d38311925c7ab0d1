module towpath.invalid/tests

go 1.19
