--[[
 AOFlagger strategy of the DSA-110: 24 integrations of 12.9 s, 128 to 768 channels, XX and YY.

 The input is a cross-correlation after division by its receptors' bandpasses and subtraction of the sky: noise and
 interference. The real part holds its amplitude minus the median amplitude of noise; the imaginary part is zero; outliers
 of a 7 sigma clip are masked. So we need no high-pass filter, and no normalize_subbands, which harms these data.
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
