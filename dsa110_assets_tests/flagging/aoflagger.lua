--[[
 AOFlagger strategy that is the referee of our SumThreshold.

 The input is what `sum_threshold` gets: the real part holds amplitudes minus their median, the imaginary part is zero.
]]

aoflagger.require_min_version("3.0")

function execute(input)
  local base_threshold = 1.2 -- in AOFlagger's own units; lower is more sensitive

  for _, polarization in ipairs(input:get_polarizations()) do
    local data = input:convert_to_polarization(polarization)
    data = data:convert_to_complex("real")
    local original = data:copy()
    aoflagger.sumthreshold_masked(data, original, base_threshold, base_threshold, true, true)
    input:join_mask(data)
  end
end
