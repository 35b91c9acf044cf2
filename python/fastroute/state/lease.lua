-- Leases on one account: what one caller may use in one window of time.
--
-- Fields of the hash KEYS[1], by replica: "s:" what it has used, "g:" what it may use up to,
-- "e:" when its lease ends (ms), "q:" the number of its last call. All but "e:" only grow, but for
-- "g:" of a replica that gives back. So a call that is repeated, or arrives late, changes nothing:
-- use is merged by its maximum, and a lease is changed by newer calls only.
--
-- ARGV: limit, replica, call, reserved, wanted, lease (ms), expiry (ms), then pairs of a replica and
-- what it has used; the first pair is the caller's own.
-- Returns what it holds, the total use, what others hold, replicas with a lease, and all those pairs
-- in one string.
local key, limit, me, call = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local reserved, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do found[flat[i]] = tonumber(flat[i + 1]) end

local function set(field, value)
  found[field] = value
  redis.call('HSET', key, field, string.format('%.0f', value))
end

for i = 8, #ARGV, 2 do
  local field, used = 's:' .. ARGV[i], tonumber(ARGV[i + 1])
  if used > (found[field] or -1) then set(field, used) end
end

local total, others, replicas, known = 0, 0, 1, {}
for field, value in pairs(found) do
  local kind, name = field:sub(1, 2), field:sub(3)
  if kind == 's:' then
    total = total + value
    if value > 0 then known[#known + 1] = string.format('%s %.0f', name, value) end
  elseif kind == 'e:' and name ~= me then
    if value > now then
      replicas = replicas + 1
      others = others + math.max(0, found['g:' .. name] - found['s:' .. name])
    elseif found['s:' .. name] == 0 then -- it ended without any use
      redis.call('HDEL', key, 's:' .. name, 'g:' .. name, 'e:' .. name, 'q:' .. name)
    end
  end
end

local used = found['s:' .. me]
if call > (found['q:' .. me] or -1) then
  -- The nearer the limit, the smaller the leases, so that idle replicas hold little of what is left.
  local fair = math.floor((limit - total) / (2 * replicas))
  local left = math.max(0, limit - total - others)
  set('g:' .. me, used + math.min(left, math.max(reserved, math.min(wanted, fair))))
  set('e:' .. me, now + tonumber(ARGV[6]))
  set('q:' .. me, call)
end
redis.call('PEXPIRE', key, ARGV[7])
return {math.max(0, found['g:' .. me] - used), total, others, replicas, table.concat(known, ' ')}
