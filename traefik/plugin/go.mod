module tekup.dev/policy

go 1.22
