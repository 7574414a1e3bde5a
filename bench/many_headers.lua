for n = 1, 40 do wrk.headers["X-Header-" .. n] = "value of header number " .. n end
