-- For wrk: the same request with each credential in turn, and what was counted as one line of JSON.
-- Arguments: METHOD PATH [file with one Authorization value per line, or -] [file with the body, or -]

local requests, at = {}, 0

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

function init(arguments)
    local method, path, credentials, body = unpack(arguments)
    local text = body ~= "-" and read(body) or nil
    local headers = { ["User-Agent"] = "wrk" }
    if text then headers["Content-Type"] = "application/json" end
    if credentials == "-" then
        requests[1] = wrk.format(method, path, headers, text)
        return
    end
    for credential in read(credentials):gmatch("[^\n]+") do
        headers["Authorization"] = credential
        requests[#requests + 1] = wrk.format(method, path, headers, text)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary)
    local errors = summary.errors
    io.write(string.format('\n{"requests":%d,"microseconds":%d,"refused":%d,"broken":%d}\n', summary.requests,
        summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
