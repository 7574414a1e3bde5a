wrk.method = "PUT"
wrk.body = string.rep("v", 64)
