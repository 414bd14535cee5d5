-- What pmtutrace says of a packet in its comment, as fields to filter by:
--   tshark -X lua_script:pmtutrace.lua -r out.pcapng -Y 'pmtutrace.verdict == "suppressed"'
-- In Wireshark: copy this file into the folder "Personal Lua Plugins" of Help, About, Folders.
local pmtutrace = Proto("pmtutrace", "pmtutrace")

local fields = {
    type = ProtoField.string("pmtutrace.type", "Type"),
    verdict = ProtoField.string("pmtutrace.verdict", "Verdict"),
    cause = ProtoField.string("pmtutrace.cause", "Cause"),
    site = ProtoField.string("pmtutrace.site", "Site"),
    reason = ProtoField.string("pmtutrace.reason", "Drop reason"),
    mtu = ProtoField.uint32("pmtutrace.mtu", "MTU"),
    len = ProtoField.uint32("pmtutrace.len", "Length"),
    tunnel = ProtoField.string("pmtutrace.tunnel", "Tunnel"),
    netns = ProtoField.string("pmtutrace.netns", "Network namespace"),
    count = ProtoField.uint32("pmtutrace.count", "Packets of this kind since the last"),
}
local numbers = { mtu = true, len = true, count = true }
pmtutrace.fields = fields

local comment = Field.new("frame.comment")

function pmtutrace.dissector(_, _, tree)
    local said = comment()
    if said == nil then
        return
    end
    local text = tostring(said.value)
    if text:sub(1, 10) ~= "pmtutrace " then
        return
    end
    local branch = tree:add(pmtutrace)
    local at = 11
    while true do
        local first, last, name, value = text:find('^ *(%l+)="([^"]*)"', at)
        if first == nil then
            first, last, name, value = text:find('^ *(%l+)=([^ "]+)', at)
        end
        if first == nil then
            return
        end
        at = last + 1
        if fields[name] ~= nil then
            if numbers[name] then
                value = tonumber(value)
            end
            if value ~= nil then
                branch:add(fields[name], value):set_generated()
            end
        end
    end
end

register_postdissector(pmtutrace)
