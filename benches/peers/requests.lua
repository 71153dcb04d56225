-- For wrk: the same request with each credential in turn, and what was counted as one line of JSON.
-- Arguments: METHOD PATH [file with one Authorization value per line, or -] [file with the body, or -]

local requests, at = {}, 0

local function next_request()
    at = at % #requests + 1
    return requests[at]
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

function init(arguments)
    local credentials
    wrk.method, wrk.path, credentials = unpack(arguments)
    wrk.headers["User-Agent"] = "wrk"
    if arguments[4] ~= "-" then
        wrk.body, wrk.headers["Content-Type"] = read(arguments[4]), "application/json"
    end
    if credentials == "-" then return end
    for credential in read(credentials):gmatch("[^\n]+") do
        wrk.headers["Authorization"] = credential
        requests[#requests + 1] = wrk.format()
    end
    if #requests > 1 then request = next_request end     -- without this function, wrk itself repeats the one there is
end

function done(summary)
    local errors = summary.errors
    io.write(string.format('\n{"requests":%d,"microseconds":%d,"refused":%d,"broken":%d}\n', summary.requests,
        summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
