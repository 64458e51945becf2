module tekup.dev/bench/load

go 1.22
