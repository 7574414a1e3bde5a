for n = 1, 10 do wrk.headers["X-Header-" .. n] = "value of header number " .. n end
